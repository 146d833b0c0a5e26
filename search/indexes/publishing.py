"""Make a written version of an index the one that readers open, and keep the registry in step with it."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes.layout import IndexFolder, Manifest, Member, list_indexes
from imgrec.search.indexes.segment import last_id, open_segment, verify_segment
from imgrec.search.indexes.vectors import Ids
from imgrec.storage.registry.index_rows import forget_segments, mirrored_segments, record_segment
from imgrec.storage.registry.registry import Registry


def publish(registry: Registry, folder: IndexFolder, manifest: Manifest) -> None:
    """Make a written version the one that readers open, if it is not, with its rows in `index_rows`.

    Those of new segments come before the pointer moves. So a published segment without any is one that this registry
    has not seen: a registry restored from a backup, which may have given its ids to other photos.
    """
    record_rows(registry, folder, manifest)
    if folder.current_version() != manifest.version:
        folder.point_to(manifest)
    named = {entry.name for entry in manifest.segments}
    with registry.transaction():
        forget_segments(registry, folder.key, mirrored_segments(registry, folder.key) - named)


def record_rows(registry: Registry, folder: IndexFolder, manifest: Manifest) -> None:
    """Record the rows of segments that `index_rows` does not know, for users of SQL.

    They are on the disk before a pointer is: else a power cut could leave an index that is newer than the registry.
    """
    with registry.transaction(durable=True):
        known = mirrored_segments(registry, folder.key)
        for entry in manifest.segments:
            if entry.name not in known:
                ids = open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors).ids
                record_segment(registry, folder.key, entry.name, _plain(ids))


def reserve_indexed_ids(registry: Registry, indexes_dir: Path) -> None:
    """Keep ids that an index knows and the registry does not from meaning other images.

    A registry that was restored from a copy would give them to the next new photos.
    """
    for name in list_indexes(indexes_dir):
        folder = IndexFolder(indexes_dir, name)
        for segment in set(folder.segments()) - mirrored_segments(registry, folder.key):
            try:
                verify_segment(folder.segment_dir(segment))
                registry.reserve_ids(last_id(folder.segment_dir(segment)))
            except IndexDamagedError:
                continue  # nobody was ever shown these ids, or the update below builds it anew


def serves_others(folder: IndexFolder, members: Sequence[Member], vector_settings: Mapping[str, Any]) -> bool:
    """Whether readers are served vectors of other members or settings than these."""
    try:
        manifest = folder.read_manifest()
    except (IndexNotFoundError, IndexDamagedError):
        return False
    return manifest.members != tuple(members) or manifest.vector_settings != vector_settings


def _plain(ids: Ids) -> Iterable[int]:
    return chain.from_iterable(ids[start : start + 65_536].tolist() for start in range(0, len(ids), 65_536))
