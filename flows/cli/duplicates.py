"""`imgrec duplicates`: which photos are copies of one picture, and which of them could go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import file_facts, print_json, speak_plainly
from imgrec.flows.cli.options import json_option, library_option

if TYPE_CHECKING:
    from imgrec.search.duplicates.finding import Duplicates
    from imgrec.search.duplicates.groups import Group


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
    as_json: bool,
) -> None:
    """Find photos that are copies of one picture, and say which of them to keep, and why.

    Exact copies have the same bytes. Near copies are as much alike as the threshold says: smaller, recompressed,
    cropped, in grey. Nothing is ever deleted or moved.

    \b
    imgrec duplicates
    imgrec duplicates --exact --json
    imgrec duplicates --keep format,pixels,-bytes --prefer Albums
    """
    speak_plainly(verbose)
    from imgrec.search.duplicates.finding import Asked
    from imgrec.search.duplicates.keeping import parse_rules

    asked = Asked(index, threshold, exact, parse_rules(keep.split(","), preferred))
    with _found(Settings.load(library=library).library, asked) as found:
        if as_json:
            for group in found.groups():
                print_json(group_json(group))
        else:
            from imgrec.flows.cli.duplicate_lines import print_groups

            print_groups(found)


@contextmanager
def _found(root: Path, asked: Any) -> Iterator[Duplicates]:
    from imgrec.flows.pipeline.progress import counting
    from imgrec.search.duplicates.finding import Duplicates
    from imgrec.storage.library import open_library
    from imgrec.storage.registry.registry import Registry

    library = open_library(root)
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
