"""Chunks embedded on this machine."""

import concurrent.futures
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.embedders.work.outcome import ChunkOutcome
from imgrec.embedders.work.worker import embed_chunk

# One chunk computes while the one before writes its shards.
CHUNKS_IN_FLIGHT = 2


class LocalExecutor:
    """Embeds chunks with the workers of a pool: processes of this machine, or this one (`InProcess`)."""

    in_flight = CHUNKS_IN_FLIGHT

    def __init__(
        self,
        chunks_dir: Path,
        pool: concurrent.futures.Executor,
        workers: int,
        machine: Machine,
        on_images: Callable[[int], None],
    ) -> None:
        self.chunks_dir = chunks_dir
        self._pool, self._workers, self._machine, self._on_images = pool, workers, machine, on_images

    def divide(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(modalities)]

    def begin(self, chunks: Iterable[WrittenChunk]) -> Iterator[WrittenChunk | None]:
        yield from chunks

    def embed(self, chunk_path: Path) -> ChunkOutcome:
        return embed_chunk(chunk_path, self._pool, 2 * self._workers, self._machine, self._on_images)

    def stop(self) -> None:
        """What is under way is almost done."""

    def close(self) -> None:
        shutil.rmtree(self.chunks_dir, ignore_errors=True)
