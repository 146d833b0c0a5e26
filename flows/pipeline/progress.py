"""How far an ingest is: a bar in the terminal."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text


def _rate(task: Task) -> float:
    """Images a second since the stage began; rich leaves out the first ones, and the time that they took."""
    seconds = task.elapsed if task.finished_time is None else task.finished_time
    return task.completed / seconds if seconds else 0.0


class Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        return Text(f"{rate:,.0f} images/s" if rate else "", style="cyan")


class _Remaining(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        left = timedelta(seconds=math.ceil((task.remaining or 0) / rate)) if rate else "-:--:--"
        return Text(str(left), style="progress.remaining")


COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), _Remaining())


class IngestProgress:
    """`on_read` and `on_images` may be called from any thread."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._reading = bar.add_task("reading new files", visible=False)
        self._embedding = bar.add_task("embedding", visible=False, start=False)

    def on_read(self, done: int, total: int) -> None:
        self._bar.update(self._reading, completed=done, total=total, visible=True)

    def expect(self, images: int) -> None:
        if images:
            self._bar.start_task(self._embedding)
            self._bar.update(self._embedding, total=images, visible=True)

    def on_images(self, count: int) -> None:
        self._bar.advance(self._embedding, count)

    @property
    def embedded(self) -> int:
        """Images embedded so far, with a vector or without."""
        return int(self._bar.tasks[self._embedding].completed)


@contextmanager
def ingest_progress() -> Iterator[IngestProgress]:
    """Show a bar where standard error is a terminal, else nothing."""
    console = Console(stderr=True)
    with Progress(*COLUMNS, console=console, disable=not sys.stderr.isatty()) as bar:
        yield IngestProgress(bar)
