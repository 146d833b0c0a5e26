"""The options that say which photos may be hits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from imgrec.search.filters import Filter

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--where", "wheres", multiple=True, metavar="SQL",
                 help="Only photos for which this holds, as 'width > 2000'; `imgrec sql` shows the columns."),
    click.option("--path", "paths", multiple=True, metavar="PATTERN",
                 help="Only photos of such a path, by gitignore's rules: '2019/**', '*.png', '!*-edited.*'."),
    click.option("--ids", multiple=True, metavar="N,…", help="Only these photos of the library: 3,7,100..200."),
    click.option("--size", metavar="RANGE", help="Only files of such a size: 1M..5M, +500k (at least), -2G (at most)."),
    click.option("--format", "formats", multiple=True, metavar="FORMAT",
                 help="Only pictures of this format: jpeg, png, heic, raw, …"),
)  # fmt: skip


def filter_options(function: F) -> F:
    """Add all of them; several of one kind allow what any of them does, but every --where has to hold."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def filter_of(
    *,
    wheres: tuple[str, ...],
    paths: tuple[str, ...],
    ids: tuple[str, ...],
    size: str | None,
    formats: tuple[str, ...],
) -> Filter | None:
    """What the options say together; None where they say nothing."""
    from imgrec.search.filters import Filter
    from imgrec.search.ranges import id_ranges

    chosen = Filter(
        where=wheres or None,
        paths=paths,
        ids=id_ranges(ids) if ids else None,
        size=size,
        formats=formats,
    )
    return None if chosen == Filter() else chosen
