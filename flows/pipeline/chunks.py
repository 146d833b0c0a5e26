"""Cut what is pending into chunks."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgrec.conf.settings import Settings
from imgrec.embedders.work.chunk import Chunk, WrittenChunk, read_chunk
from imgrec.storage.library import Library
from imgrec.storage.registry.pending import PendingGroup, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.store import ThumbnailStore

# One task run a chunk; more of them would drown Prefect's UI, so chunks grow instead.
MAX_CHUNKS = 2_000


class GroupPart(NamedTuple):
    """Some modalities of a group, which go into chunks of their own; the images of the first part count."""

    modalities: tuple[str, ...]
    start: int
    images: int
    counts: bool


def contents_of(chunks: Iterable[WrittenChunk]) -> dict[str, set[bytes]]:
    """What chunks are about, by modality."""
    found: dict[str, set[bytes]] = {}
    for written in chunks:
        for modality in written.modalities:
            found.setdefault(modality, set()).update(entry.content_hash for entry in read_chunk(written.path).pending)
    return found


def divide(groups: Iterable[PendingGroup], by: Callable[[Sequence[str]], Sequence[tuple[str, ...]]]) -> list[GroupPart]:
    """Divide the modalities of each group."""
    return [
        GroupPart(names, group.start, group.images, number == 0)
        for group in groups
        for number, names in enumerate(by(group.modalities))
    ]


def write_chunks(
    library: Library,
    registry: Registry,
    parts: Sequence[GroupPart],
    fingerprints: Mapping[str, str],
    chosen: Settings,
    folder: Path,
) -> Iterator[WrittenChunk]:
    """Write the pending contents as chunk files into a folder, one at a time, `chunk_size` images each or more."""
    total = sum(part.images for part in parts)
    store = ThumbnailStore(library.thumbnails_dir)
    size = max(chosen.chunk_size, -(-total // MAX_CHUNKS))
    for part in parts:
        draws = chosen.thumbnails and part.counts  # once, where the modalities of a picture are divided
        for start in range(part.start, part.start + part.images, size):
            pending = read_pending(registry, start, min(size, part.start + part.images - start))
            lacking = draws and store.lacking([entry.content_hash for entry in pending])
            chunk = Chunk(
                images_roots=library.roots.folders,
                shards_dir=str(library.shards_dir),
                models_dir=str(library.models_dir),
                fingerprints={modality: fingerprints[modality] for modality in part.modalities},
                vector_settings=library.vector_settings,
                max_megapixels=chosen.max_megapixels,
                decode_timeout_s=chosen.decode_timeout_s,
                pending=tuple(pending),
                follow_links=library.follow_links,
                thumbnails_dir=str(library.thumbnails_dir) if lacking else None,
            )
            yield chunk.written(chunk.write(folder), part.counts)
