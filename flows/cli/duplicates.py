"""`imgrec duplicates`: which photos are copies of one picture, and which of them could go."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import file_facts, print_json, speak_plainly, visible
from imgrec.flows.cli.options import json_option, library_option, sheet_path

if TYPE_CHECKING:
    from imgrec.search.duplicates.finding import Asked, Duplicates
    from imgrec.search.duplicates.groups import Group
    from imgrec.storage.library import Library


def _file_in_folder(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | None:
    """Refuse before the search what cannot be written."""
    if value is None:
        return None
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir():
        raise click.BadParameter(f"{value}: name a file in a folder that is there")
    return path


@click.command()
@library_option
@click.option("--index", metavar="NAME", help="Index that says what is near; default: the library's.")
@click.option("--threshold", type=click.FloatRange(-1, 1), metavar="COSINE",
              help="Photos this much alike are near copies; default: the index's (docs/duplicates.md).")  # fmt: skip
@click.option("--exact", is_flag=True, help="Only files of the same bytes, for which no index is needed.")
@click.option("--keep", default="pixels,bytes,format,date,folder", show_default=True, metavar="RULES",
              help="Which photo of a group to keep: what the first rule leaves undecided, the next one decides. "
                   "-NAME is the other way round: -date keeps the newest.")  # fmt: skip
@click.option("--prefer", "preferred", multiple=True, metavar="FOLDER",
              help="Folder below that of the photos that the rule `folder` prefers; may be repeated.")  # fmt: skip
@click.option("--preview", metavar="FILE.png", callback=sheet_path, help="Draw the groups on contact sheets, as PNG.")
@click.option("--html", "page", metavar="FILE.html", callback=_file_in_folder,
              help="Write the groups as one page that needs no other file.")  # fmt: skip
@click.option("--most", type=click.IntRange(min=1), default=200, show_default=True, metavar="N",
              help="Groups on sheets and page.")  # fmt: skip
@click.option(
    "--print0", is_flag=True, help="Print the files that are not the ones to keep, a NUL after each, and nothing else."
)
@click.option("--script", metavar="FILE.sh", callback=_file_in_folder,
              help="Write a shell script that clears them away, for you to read and to run.")  # fmt: skip
@click.option("--by", type=click.Choice(["trash", "mv", "rm"]), default="trash", show_default=True,
              help="How the script does so: into the desktop's trash, into the folder --to, or for good.")  # fmt: skip
@click.option("--to", metavar="FOLDER", help="Where the script moves photos to.")
@click.option("--settle", "left", type=int, multiple=True, metavar="GROUP",
              help="Leave this group as it is, and show it no more; may be repeated.")  # fmt: skip
@click.option("--not-duplicates", "different", type=int, multiple=True, metavar="GROUP",
              help="The pictures of this group are not the same: put them together no more.")  # fmt: skip
@click.option("--settled", is_flag=True, help="List the groups that are settled.")
@click.option("--reopen", type=int, multiple=True, metavar="NUMBER", help="Let a group of that list be found again.")
@json_option
@click.pass_obj
def duplicates(
    verbose: bool,
    /,
    library: str | None,
    index: str | None,
    threshold: float | None,
    exact: bool,
    keep: str,
    preferred: tuple[str, ...],
    preview: Path | None,
    page: Path | None,
    most: int,
    print0: bool,
    script: Path | None,
    by: str,
    to: str | None,
    left: tuple[int, ...],
    different: tuple[int, ...],
    settled: bool,
    reopen: tuple[int, ...],
    as_json: bool,
) -> None:
    """Find photos that are copies of one picture, and say which of them to keep, and why.

    Exact copies have the same bytes. Near copies are as much alike as the threshold says: smaller, recompressed,
    cropped, in grey. Nothing is ever deleted or moved by imgrec. A group is called by the lowest id in it.

    \b
    imgrec duplicates --preview copies.png
    imgrec duplicates --keep format,pixels,-bytes --prefer Albums
    imgrec duplicates --not-duplicates 17 --settle 23
    imgrec duplicates --exact --script tidy.sh --by mv --to ~/copies
    """
    speak_plainly(verbose)
    from imgrec.search.duplicates.finding import Asked
    from imgrec.search.duplicates.keeping import parse_rules
    from imgrec.storage.library import open_library

    if (by == "mv") != (to is not None) or (to is not None and script is None):
        raise click.UsageError("--to FOLDER goes with --script FILE --by mv")
    asked = Asked(index, threshold, exact, parse_rules(keep.split(","), preferred))
    home = open_library(Settings.load(library=library).library)
    if reopen:
        _reopen(home, reopen)
    if settled:
        _list_settled(home, as_json)
    if reopen or settled:
        return
    with _found(home, asked) as found:
        if left or different:
            _settle(home, found, left, different)
        elif print0:
            for group in found.groups():
                sys.stdout.buffer.writelines(os.fsencode(c.file) + b"\0" for c in group.copies if not c.keep)
        elif as_json:
            for group in found.groups():
                print_json(group_json(group))
        else:
            from imgrec.flows.cli.duplicate_lines import print_groups

            print_groups(found)
        told = _write_files(found, preview, page, most, script, by, to)
    for line in told if not (as_json or print0) else ():
        click.echo(visible(line))


def _write_files(
    found: Duplicates, preview: Path | None, page: Path | None, most: int, script: Path | None, by: str, to: str | None
) -> list[str]:
    """Write what was asked for, and say what was written."""
    from imgrec.flows.pipeline.progress import counting
    from imgrec.storage.photos.paths import printable

    told = []
    if preview:
        from imgrec.search.duplicates.sheet import write_sheets

        with counting("drawing", "groups") as on_progress:
            sheets = write_sheets(preview, list(islice(found.groups(), most)), on_progress)
        told += [f"preview: {printable(str(sheet))}" for sheet in sheets]
    if page:
        from imgrec.search.duplicates.page import write_page

        groups = list(islice(found.groups(), most))
        told_there = f"{len(groups):,} groups of copies among {found.photos:,} photos, {most:,} at most."
        with counting("drawing", "groups") as on_progress:
            write_page(page, groups, told_there, on_progress)
        told.append(f"page: {printable(str(page))}")
    if script:
        from imgrec.search.duplicates.script import write_script

        target = None if to is None else Path(to).expanduser().resolve()
        count = write_script(script, found.groups(), by, target)
        told.append(f"script: {printable(str(script))} clears {count:,} files away (sh FILE -n: only says which)")
    return told


def _settle(home: Library, found: Duplicates, left: Sequence[int], different: Sequence[int]) -> None:
    from imgrec.search.duplicates.settling import settle_groups
    from imgrec.storage.registry.duplicates import DIFFERENT, LEFT

    groups = [group for group in found.groups() if group.number in {*left, *different}]
    for numbers, verdict, told in ((left, LEFT, "left as they are"), (different, DIFFERENT, "different pictures")):
        for group in settle_groups(home, groups, numbers, verdict) if numbers else ():
            names = ", ".join(visible(copy.path) for copy in group.copies[:6])
            more = f" and {len(group.copies) - 6:,} more" if len(group.copies) > 6 else ""
            click.echo(f"group {group.number} is settled, {told}: {names}{more}")


def _reopen(home: Library, numbers: Sequence[int]) -> None:
    from imgrec.search.duplicates.settling import reopen_groups

    reopen_groups(home, numbers)
    click.echo(f"to be found again: {', '.join(map(str, numbers))}")


def _list_settled(home: Library, as_json: bool) -> None:
    from imgrec.storage.registry.duplicates import live_ids_by_content, read_facts, read_settled
    from imgrec.storage.registry.registry import Registry

    with Registry.open_for_reading(home.registry_path) as registry:
        for group in read_settled(registry):
            ids = sorted(live_ids_by_content(registry, group.contents).values())
            paths = [facts.path for facts in read_facts(registry, ids).values()]
            if as_json:
                facts = {"number": group.number, "verdict": group.verdict, "settled": group.settled}
                print_json({**facts, "pictures": len(group.contents), "paths": paths})
            else:
                told = (
                    f"{group.number:>6}  {group.verdict:9}  {group.settled[:10]}  {', '.join(paths) or 'none is there'}"
                )
                click.echo(visible(told))


@contextmanager
def _found(library: Library, asked: Asked) -> Iterator[Duplicates]:
    from imgrec.flows.pipeline.progress import counting
    from imgrec.search.duplicates.finding import Duplicates
    from imgrec.storage.registry.registry import Registry

    with Registry.open_for_reading(library.registry_path) as registry:
        with counting("comparing") as on_progress:
            found = Duplicates(library, registry, asked, on_progress)
        yield found


def group_json(group: Group) -> dict[str, Any]:
    """What scripts are told of a group."""
    photos = [
        {
            "id": copy.id,
            "path": copy.path,
            "score": round(copy.score, 4),
            "keep": copy.keep,
            "why": copy.why,
            "instead": copy.instead,
            "bytes": copy.size,
            "width": copy.width,
            "height": copy.height,
            "format": copy.format,
            **file_facts(copy.file),
        }
        for copy in group.copies
    ]
    return {"group": group.number, "kind": group.kind, "photos": photos}
