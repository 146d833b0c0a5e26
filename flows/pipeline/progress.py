"""How far an ingest or an evaluation is: bars in the terminal."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text


def _rate(task: Task) -> float:
    """Images a second since the stage began; rich leaves out the first ones, and the time that they took."""
    seconds = task.elapsed if task.finished_time is None else task.finished_time
    return task.completed / seconds if seconds else 0.0


class Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        what = task.fields.get("of", "images")
        return Text(f"{rate:,.0f} {what}/s" if rate else "", style="cyan")


class _Remaining(ProgressColumn):
    def render(self, task: Task) -> Text:
        rate = _rate(task)
        left = timedelta(seconds=math.ceil((task.remaining or 0) / rate)) if rate else "-:--:--"
        return Text(str(left), style="progress.remaining")


COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), _Remaining())
_STAGE_COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


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


class StageProgress:
    """One bar after the other, as stages begin; `on_photos` may be called from any thread."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def on_stage(self, what: str, photos: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=photos or None)

    def on_photos(self, count: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, count)


@contextmanager
def stage_progress() -> Iterator[StageProgress]:
    """Show a bar a stage where standard error is a terminal, else nothing."""
    console = Console(stderr=True)
    with Progress(*_STAGE_COLUMNS, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        yield StageProgress(bar)


@contextmanager
def counting(what: str, of: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Show a bar that is told (done, total), where standard error is a terminal, else nothing."""
    with Progress(*COLUMNS, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, of=of)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def stages_progress() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage that is told of (`stage, done, total`) where standard error is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Remaining())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
        stages: dict[str, TaskID] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=total)
            bar.update(stages[stage], completed=done, total=total)

        yield on_progress
