"""Chunks embedded on this machine."""

import concurrent.futures
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.embedders.work.outcome import ChunkOutcome
from imgrec.embedders.work.worker import embed_chunk
from imgrec.tasks.executors.leftovers import Leftover

# One chunk computes while the one before writes its shards.
CHUNKS_IN_FLIGHT = 2

logger = logging.getLogger(__name__)


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

    def resume(self, leftovers: Sequence[Leftover]) -> list[WrittenChunk]:
        """Only tell: what is under way elsewhere is computed here as well."""
        for submission, jobs in leftovers:
            logger.warning(
                "%d jobs of an earlier run work on this library, and what they do is done twice: --executor slurm "
                "waits for them, `scancel --name=%s` ends them", len(jobs), submission.job_name,
            )  # fmt: skip
        return []

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
