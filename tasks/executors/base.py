"""What the pipeline asks of whoever embeds its chunks."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.embedders.work.outcome import ChunkOutcome
from imgrec.tasks.executors.leftovers import Leftover


class Executor(Protocol):
    """Embeds chunks somewhere. `in_flight` is how many may be under way at once."""

    in_flight: int

    @property
    def chunks_dir(self) -> Path:
        """Where the chunks are to be written."""

    def resume(self, leftovers: Sequence[Leftover]) -> list[WrittenChunk]:
        """Go on with what jobs of earlier runs are at work on; return their chunks, which `begin` yields as well."""

    def divide(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        """Divide modalities into those that belong into one chunk each: decoding serves all of them."""

    def begin(self, chunks: Iterable[WrittenChunk]) -> Iterator[WrittenChunk | None]:
        """Take chunks, and yield each when its turn has come; None, now and then, while none has."""

    def embed(self, chunk_path: Path) -> ChunkOutcome:
        """Have a chunk embedded whose turn has come, and wait for it; if it failed before, once more."""

    def stop(self) -> None:
        """Give up what runs elsewhere; whoever waits for it is told."""

    def close(self) -> None:
        """Tidy up after the last chunk."""
