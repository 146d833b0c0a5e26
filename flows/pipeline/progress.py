"""How far an ingest is: a bar in the terminal, and an artifact in Prefect's UI."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

ARTIFACT_EVERY_S = 5.0


def _rate(task: Task) -> float:
    """Images a second since the stage began; rich leaves out the first ones, and the time that they took."""
    seconds = task.elapsed if task.finished_time is None else task.finished_time
    return task.completed / seconds if seconds else 0.0


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        return Text(f"{rate:,.0f} images/s" if rate else "", style="cyan")


class _Remaining(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        left = timedelta(seconds=math.ceil((task.remaining or 0) / rate)) if rate else "-:--:--"
        return Text(str(left), style="progress.remaining")


COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), _Remaining())


class IngestProgress:
    """`on_read` and `on_images` may be called from any thread; `publish` only from the flow itself."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._reading = bar.add_task("reading new files", visible=False)
        self._embedding = bar.add_task("embedding", visible=False, start=False)
        self._total = 0
        self._artifact: UUID | None = None
        self._published_s = 0.0

    def on_read(self, done: int, total: int) -> None:
        self._bar.update(self._reading, completed=done, total=total, visible=True)

    def expect(self, images: int) -> None:
        self._total = images
        if images:
            self._bar.start_task(self._embedding)
            self._bar.update(self._embedding, total=images, visible=True)

    def on_images(self, count: int) -> None:
        self._bar.advance(self._embedding, count)

    def publish(self, final: bool = False) -> None:
        """Bring the artifact up to date, every few seconds."""
        now = time.monotonic()
        if not self._total or not (final or now - self._published_s > ARTIFACT_EVERY_S):
            return
        self._published_s = now
        percent = 100.0 * self._bar.tasks[1].completed / self._total
        if self._artifact is None:
            created = create_progress_artifact(
                percent, key="imgrec-ingest", description=f"{self._total:,} images to embed"
            )
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent)


@contextmanager
def ingest_progress() -> Iterator[IngestProgress]:
    """Show a bar where standard error is a terminal, else nothing."""
    console = Console(stderr=True)
    with Progress(*COLUMNS, console=console, disable=not sys.stderr.isatty()) as bar:
        yield IngestProgress(bar)
