"""The steps of an ingest, as plain functions: a library's description and paths in, paths and numbers out.

None knows who calls it. `tasks.calls` calls them in this process, `tasks.prefect_calls` as Prefect tasks.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.work.deriving import derive_shards
from imgrec.search.indexes.layout import IndexFolder, Manifest, Member
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.publishing import publish
from imgrec.search.indexes.updating import IndexReport, update_index
from imgrec.storage.library import Library, open_library
from imgrec.storage.mirror import adopt_shards, merge_small_shards, mirror_shards
from imgrec.storage.registry.failures import forget_failures
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import ScanReport, scan_photos
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.tasks.driver import current_driver, current_executor


class Done(TypedDict):
    """A chunk's result: the paths of its shards, and how many of its images got a vector."""

    shards: list[str]
    embedded: int


def retry(library: Library, contents: Collection[bytes], by_itself: bool) -> None:
    """Make failed contents pending again; `by_itself` where nobody asked for it."""
    with Registry.open_for_writing(library.registry_path) as registry:
        forget_failures(registry, library.shards_dir, contents, by_itself)


def scan(library: Library, max_missing_share: float, decode_timeout_s: float) -> ScanReport:
    """Bring the registry up to date with the folders of photos.

    Where these are not the ones that library.json names, they are from then on.
    """
    driver = current_driver()
    before = open_library(library.root).roots
    with Registry.open_for_writing(library.registry_path) as registry:
        return scan_photos(
            registry,
            library.roots,
            driver.pool,
            max_missing_share,
            decode_timeout_s,
            driver.on_read,
            on_accepted=library.save if library.roots != before else None,
            walking=library.walking,
            moved=library.roots.moved_since(before),
        )


def adopt(library: Library) -> int:
    """Mirror shards that the registry does not know; return how many vectors that brought."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return adopt_shards(registry, library.shards_dir)


def embed(library_uuid: str, chunk_path: Path, images: int) -> Done:
    """Have a chunk of images embedded, wherever that is done."""
    outcome = current_executor().embed(chunk_path)
    return {"shards": [str(path) for path in outcome.shards], "embedded": outcome.embedded}


def derive(library: Library, modality: str) -> int:
    """Make the vectors of a derived modality that are lacking, from its source's shards; return how many came in."""
    embedder = create_embedder(modality, library.vector_settings, library.models_dir)
    with Registry.open_for_writing(library.registry_path) as registry:
        return derive_shards(registry, library.shards_dir, embedder)


def mirror(library: Library, shards: Sequence[str]) -> int:
    """Copy shards into the registry; return how many vectors came in."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return mirror_shards(registry, library.shards_dir, [Path(path) for path in shards])


def merge(library: Library, modality: str, fingerprint: str) -> int:
    """Merge small shards if there are many; return how many files went."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return merge_small_shards(registry, library.shards_dir, modality, fingerprint)


def merge_thumbnails(library: Library) -> None:
    """Merge small packs of thumbnails."""
    ThumbnailStore(library.thumbnails_dir).merge()


def index(
    library: Library,
    name: str,
    members: tuple[Member, ...],
    vector_settings: Mapping[str, Any],
    parameters: IndexParameters,
    rebuild: bool = False,
) -> IndexReport | None:
    """Build or update an index; None if there is nothing to index.

    It is published, unless its vectors were made with other settings than those that are served: then `switch` does.
    """
    with Registry.open_for_writing(library.registry_path) as registry:
        folder = IndexFolder(library.indexes_dir, name)
        return update_index(
            registry, library.shards_dir, folder, members, vector_settings, parameters, rebuild, hold_switch=True
        )


def switch(library: Library, manifests: Sequence[Manifest]) -> None:
    """Publish indexes of new vectors, one right after the other."""
    with Registry.open_for_writing(library.registry_path) as registry:
        for manifest in manifests:
            publish(registry, IndexFolder(library.indexes_dir, manifest.name), manifest)
