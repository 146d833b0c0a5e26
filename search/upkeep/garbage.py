"""`imgrec gc`: find what nothing in a library refers to, and remove it.

What is needed: the vectors and models of the library's settings, and those of every index version that is kept. That is
the current version, whatever its settings, and those that were replaced less than a day ago, which a reader may have
open. Vectors of missing photos are kept, since photos come back.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from imgrec.embedders.catalogue import MODEL_PATTERNS, create_embedders, model_files, settled_modalities
from imgrec.embedders.errors import ModelFileError
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes.layout import KEEP_REPLACED_S, IndexFolder, Manifest, index_folders, list_indexes
from imgrec.search.upkeep.unneeded import (
    Garbage,
    free_pages,
    leftover_files,
    unused_maps,
    unused_shards,
    unused_thumbnails,
    unused_vectors,
)
from imgrec.storage.forgetting import count_long_missing, forget_long_missing
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.registry import Registry

logger = logging.getLogger(__name__)


def collect_garbage(
    root: Path, delete: bool = False, keep_replaced_s: float = KEEP_REPLACED_S, missing_days: float | None = None
) -> list[Garbage]:
    """List what nothing in the library at `root` refers to; with `delete`, remove it.

    With `missing_days`, photos that have been missing for longer are among it.

    Raises:
        LibraryLockedError: somebody writes the library, and may just be making what looks like garbage.
    """
    library = open_library(root)
    with writer_lock(root), Registry.open_for_writing(library.registry_path) as registry:
        garbage = list(find_garbage(library, registry, keep_replaced_s, missing_days))
        if delete:
            for item in garbage:
                item.remove()
            for item in free_pages(registry):  # what the deletions above left
                item.remove()
    return garbage


def find_garbage(
    library: Library, registry: Registry, keep_replaced_s: float, missing_days: float | None = None
) -> Iterator[Garbage]:
    """Yield what can go, in the order in which it must: killed half-way, the rest is still found.

    Nothing of an index that does not say what it needs is among it, and no vectors or models, which it may need.
    """
    current, unread = _read_indexes(library)
    kept = list(_kept_manifests(library, keep_replaced_s))
    used = fingerprints_in_use(library, current, kept)
    if unread:
        used |= registry.fingerprints().keys()
    yield from unused_vectors(registry, used)
    yield from unused_shards(library, used)
    if missing_days is not None:
        count, size = count_long_missing(registry, missing_days)
        if count:
            forget = partial(forget_long_missing, registry, library.shards_dir, missing_days)
            yield Garbage("missing photos", f"{count:,} missing for more than {missing_days:g} days", size, forget)
    for folder in index_folders(library.indexes_dir):
        if folder.name in unread:
            continue
        for path in folder.leftovers(keep_replaced_s):
            size = sum(file.stat().st_size for file in path.iterdir())
            kind = "index segment" if path.parent.name == "segments" else "index version"
            yield Garbage(kind, str(path.relative_to(library.root)), size, partial(shutil.rmtree, path))
    if not unread:
        yield from _unused_models(library, [library.vector_settings, *(m.vector_settings for m in [*current, *kept])])
    yield from unused_maps(library, keep_replaced_s)
    yield from unused_thumbnails(library, registry)
    yield from leftover_files(library)
    yield from free_pages(registry)


def fingerprints_in_use(library: Library, current: list[Manifest], kept: list[Manifest]) -> set[str]:
    """The fingerprints of the library's settings and of indexes, whose settings score hits in every modality.

    Raises:
        ModelFileError: a model that is needed is missing.
    """
    used = {member.fingerprint for manifest in [*current, *kept] for member in manifest.members}
    for settings in (library.vector_settings, *(manifest.vector_settings for manifest in current)):
        used |= _fingerprints(library, settings)
    for manifest in kept:
        with suppress(ModelFileError):  # then no reader can have it open
            used |= _fingerprints(library, manifest.vector_settings)
    return used


def _read_indexes(library: Library) -> tuple[list[Manifest], set[str]]:
    """Return the current manifests, and the names of the indexes that have none which can be read."""
    current, unread = [], set()
    for name in list_indexes(library.indexes_dir):
        try:
            current.append(IndexFolder(library.indexes_dir, name).read_manifest())
        except (IndexDamagedError, IndexNotFoundError) as error:
            unread.add(name)
            logger.warning("all of index %s is kept, and all vectors and models, which it may need: %s", name, error)
    return current, unread


def _fingerprints(library: Library, vector_settings: Mapping[str, Any]) -> set[str]:
    embedders = create_embedders(
        settled_modalities(library.modalities, vector_settings), vector_settings, library.models_dir
    )
    return {embedder.spec.fingerprint for embedder in embedders.values()}


def _kept_manifests(library: Library, keep_replaced_s: float) -> Iterator[Manifest]:
    for folder in index_folders(library.indexes_dir):
        for version in folder.kept_versions(keep_replaced_s):
            with suppress(IndexDamagedError):  # it opens for nobody; a current one has been read before
                yield folder.read_manifest(version)


def _unused_models(library: Library, used: list[Mapping[str, Any]]) -> Iterator[Garbage]:
    needed = {path for settings in used for path in model_files(settings, library.models_dir)}
    files = [path for pattern in MODEL_PATTERNS for path in library.models_dir.glob(pattern)]
    for path in sorted(files):
        if path not in needed:
            yield Garbage("model", str(path.relative_to(library.root)), path.stat().st_size, path.unlink)
