"""Cut what is pending into chunks."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from imgrec.conf.settings import Settings
from imgrec.embedders.work.chunk import Chunk
from imgrec.storage.library import Library
from imgrec.storage.registry.pending import PendingGroup, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.store import ThumbnailStore

# One task run a chunk; more of them would drown Prefect's UI, so chunks grow instead.
MAX_CHUNKS = 2_000


class WrittenChunk(NamedTuple):
    """A chunk file, how many images it asks for, and their size on disk."""

    path: Path
    images: int
    bytes: int


def write_chunks(
    library: Library,
    registry: Registry,
    groups: list[PendingGroup],
    fingerprints: Mapping[str, str],
    chosen: Settings,
) -> Iterator[WrittenChunk]:
    """Write the pending contents as chunk files, one at a time, `batch_size` images each or more."""
    total = sum(group.images for group in groups)
    store = ThumbnailStore(library.thumbnails_dir)
    size = max(chosen.batch_size, -(-total // MAX_CHUNKS))
    for group in groups:
        for start in range(group.start, group.start + group.images, size):
            pending = read_pending(registry, start, min(size, group.start + group.images - start))
            draws = chosen.thumbnails and store.lacking([entry.content_hash for entry in pending])
            chunk = Chunk(
                images_roots=library.roots.folders,
                shards_dir=str(library.shards_dir),
                models_dir=str(library.models_dir),
                fingerprints={modality: fingerprints[modality] for modality in group.modalities},
                vector_settings=library.vector_settings,
                max_megapixels=chosen.max_megapixels,
                decode_timeout_s=chosen.decode_timeout_s,
                pending=tuple(pending),
                model_batch_size=chosen.model_batch_size,
                models_root=str(chosen.models_root),
                device=chosen.device,
                follow_links=library.follow_links,
                thumbnails_dir=str(library.thumbnails_dir) if draws else None,
            )
            yield WrittenChunk(chunk.write(library.chunks_dir), len(pending), sum(entry.size for entry in pending))
