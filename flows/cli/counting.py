"""How many queries are answered, on a terminal that shows nothing else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from imgrec.flows.pipeline.progress import Speed


@contextmanager
def counting(what: str) -> Iterator[Callable[[], None]]:
    """Give a function to call for each; where answers go to the terminal themselves, or none is there, it is silent."""
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,.0f}"), Speed())
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda: bar.advance(task)
