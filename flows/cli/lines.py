"""Tables in which no name is broken: a narrow terminal costs columns, and what is still too long runs over."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from imgrec.flows.cli.console import visible

_INDENT = _GAP = "  "


def plain_console() -> Console:
    """A console on which text comes out as it is: names may look like rich's markup (`[red]`) or emoji (`:cat:`)."""
    return Console(markup=False, emoji=False, highlight=False)


class Column(NamedTuple):
    """A column of a table. Where the terminal is too narrow, those that give way are left out, first 1, then 2, …"""

    heading: str
    right: bool = False
    gives_way: int = 0


def print_lines(title: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """Print a table with one line a row, so that names can be read and copied.

    Long names belong into the last column, where they make no other line longer. A file or a pipe has room for all.
    """
    console = plain_console()
    cells = [[column.heading for column in columns], *([visible(cell) for cell in row] for row in rows)]
    widths, room = _widths(cells), _room(console)
    shown = _fitting(columns, widths, room)
    lines = [_line(columns, widths, shown, row) for row in cells]
    line = "─" if console.encoding.startswith("utf") else "-"
    rule = " " + line * (min(_total(widths, shown), room) - 1)
    if title:
        console.print(Text(visible(title), style="bold"), soft_wrap=True)
    console.out("\n".join(["", lines[0], rule, *lines[1:], ""]), highlight=False)
    if left_out := [column.heading for place, column in enumerate(columns) if place not in shown]:
        told = f"{_INDENT}left out, since the terminal is narrow: {', '.join(left_out)} (--json has all)\n"
        console.print(Text(told, style="dim"), soft_wrap=True)


def print_records(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of any columns as a table, or where it is too wide each row as lines of one value."""
    console = plain_console()
    cells = [list(map(visible, row)) for row in (names, *rows)]
    widths = _widths(cells)
    if _total(widths, range(len(names))) <= _room(console):
        print_lines("", [Column(name) for name in names], cells[1:])
        return
    longest = max(map(cell_len, cells[0]))
    for row in cells[1:]:
        lines = [
            f"{_INDENT}{' ' * (longest - cell_len(name))}{name}  {cell}"
            for name, cell in zip(cells[0], row, strict=True)
        ]
        console.out("\n".join(["", *lines]), highlight=False)


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(*cells, strict=True)]


def _room(console: Console) -> int:
    return console.width if console.is_terminal or "COLUMNS" in os.environ else sys.maxsize


def _fitting(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The places of the columns that are shown."""
    shown = list(range(len(columns)))
    for step in sorted({column.gives_way for column in columns} - {0}):
        if _total(widths, shown) > room:
            shown = [place for place in shown if columns[place].gives_way != step]
    return shown


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return len(_INDENT) + sum(widths[place] for place in shown) + len(_GAP) * (len(shown) - 1)


def _line(columns: Sequence[Column], widths: Sequence[int], shown: Sequence[int], row: Sequence[str]) -> str:
    padded = []
    for place in shown:
        space = " " * (widths[place] - cell_len(row[place]))
        padded.append(space + row[place] if columns[place].right else row[place] + space)
    return (_INDENT + _GAP.join(padded)).rstrip()
