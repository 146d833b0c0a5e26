"""Groups of copies as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from imgrec.flows.cli.console import visible
from imgrec.flows.cli.lines import plain_console
from imgrec.flows.cli.tables import size_of
from imgrec.search.duplicates.groups import EXACT

if TYPE_CHECKING:
    from imgrec.search.duplicates.finding import Duplicates
    from imgrec.search.duplicates.groups import Copy, Group

# Of a larger group so many photos are shown; --json has all.
_LINES = 20


def print_groups(found: Duplicates) -> None:
    """Print groups as they are found, each photo on a line, and at the end what they come to."""
    console = plain_console()
    near = exact = spare = size = 0
    for group in found.groups():
        console.print(Text(visible(_heading(group)), "bold"), soft_wrap=True)
        lines = [_line(copy) for copy in group.copies[:_LINES]]
        if len(group.copies) > _LINES:
            lines.append(f"  and {len(group.copies) - _LINES:,} more (--json has all)")
        console.out("\n".join([*lines, ""]), highlight=False)
        exact, near = exact + (group.kind == EXACT), near + (group.kind != EXACT)
        spare, size = spare + sum(not copy.keep for copy in group.copies), size + group.spare_bytes
    where = f"near from {found.near[1]:.3g} in {found.near[0]}" if found.near else "exact copies only"
    if near + exact == 0:
        console.print(f"no copies among {found.photos:,} photos ({where})", soft_wrap=True)
        return
    told = f"{exact:,} group{'' if exact == 1 else 's'} of exact copies, {near:,} of near ones"
    console.print(
        f"{told}, among {found.photos:,} photos ({where}).\n"
        f"Not the ones to keep: {spare:,} ({size_of(size)}). Nothing was deleted.",
        soft_wrap=True,
    )


def _heading(group: Group) -> str:
    kept = group.copies[0]
    return f"group {group.number}, {group.kind}: keep {kept.id}, {kept.why}"


def _line(copy: Copy) -> str:
    verdict = "keep" if copy.keep else ""
    pixels = f"{copy.width} × {copy.height}"
    return f"  {verdict:4}  {copy.score:.3f}  {pixels:>13}  {size_of(copy.size):>8}  {copy.id:>6}  {visible(copy.path)}"
