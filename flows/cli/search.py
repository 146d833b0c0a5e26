"""`imgrec search`: what looks like this?"""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import complain, file_facts, print_json, speak_plainly, visible
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.filters import filter_of, filter_options
from imgrec.flows.cli.options import json_option, library_option, settings_options, sheet_path


@click.command()
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@library_option
@click.option(
    "--files-from",
    metavar="FILE",
    type=click.File("rb"),
    help="Also the queries in this file, one a line; - is standard input.",
)
@click.option("-0", "--null", "nul", is_flag=True, help="NUL bytes end the queries of --files-from, not lines.")
@click.option(
    "--urls",
    type=click.Choice(["public", "any"]),
    help="Fetch a QUERY that begins with http:// or https://, from public addresses only or from any.",
)
@click.option("--text", "texts", multiple=True, metavar="WORDS", help="Words that describe a photo; may be repeated.")
@click.option("--image", "images", multiple=True, metavar="PICTURE",
              help="A picture that is mixed with the words; may be repeated.")  # fmt: skip
@click.option("--minus", multiple=True, metavar="WHAT", help="Words or a picture to get away from; may be repeated.")
@click.option("--index", metavar="NAME", help="Index to search; default: the library's.")
@settings_options("top_k", "ef_search", "device", "models_root")
@click.option("--scores", type=click.Choice(["index", "all"]), default="index", show_default=True,
              help="Modalities to score for a new picture; id:N always has all.")  # fmt: skip
@filter_options
@click.option("--not-itself", is_flag=True,
              help="The query's own photo is no hit: that of id:N, or those with the content of a file.")  # fmt: skip
@click.option("--collapse-copies", is_flag=True, help="Photos of equal content are one hit, with their number.")
@click.option("--weights", metavar="color=1,sift=0.5", help="What each modality counts, instead of the index's own "
              "weights; those that are not named count nothing.")  # fmt: skip
@click.option("--expand", is_flag=True, help="Rank the 200 nearest photos anew by what they have for neighbours: more "
              "of the same kind, and scores that no longer fall from hit to hit.")  # fmt: skip
@click.option("--preview", metavar="FILE.png", callback=sheet_path,
              help="Write one contact sheet of all queries and their hits, as PNG.")  # fmt: skip
@json_option
@click.pass_obj
def search(
    verbose: bool,
    /,
    queries: tuple[str, ...],
    files_from: IO[bytes] | None,
    nul: bool,
    urls: str | None,
    texts: tuple[str, ...],
    images: tuple[str, ...],
    minus: tuple[str, ...],
    library: str | None,
    index: str | None,
    scores: str,
    not_itself: bool,
    collapse_copies: bool,
    weights: str | None,
    expand: bool,
    preview: Path | None,
    as_json: bool,
    top_k: str | None,
    ef_search: str | None,
    device: str | None,
    models_root: str | None,
    **filters: Any,
) -> None:
    """Find the photos most like each QUERY: the path of a picture, or id:N for a photo of the library. A folder stands
    for all photos in it, a pattern ('2019/*.jpg') for what it matches, - for a picture from standard input.

    Or those most like one mixture of words and pictures, --text, --image and --minus. A number before a colon weighs
    what follows: "2:red car". What is taken away is a picture if it is id:N or a file, and words otherwise. Words need
    an index that reads text, which is openclip, and take that one unless --index names another.

    Scores are cosines: 1 is the same, 0 has nothing in common. A combined index weighs those of its modalities, as far
    as the query has them: sift finds nothing in a plain wall.

    \b
    imgrec search --text "a red car"
    imgrec search --text "2:a red car" --image id:7 --minus snow
    imgrec search holiday.jpg
    imgrec search id:7 id:12 --top-k 20
    imgrec search holiday.jpg --path 'Italy/**' --where 'width > 2000'
    imgrec search holiday.jpg --taken 2019-05..2019-08 --camera iphone
    imgrec search id:7 --weights color=1,efficientnet=2
    imgrec search holiday.jpg --preview hits.png
    imgrec search holiday.jpg --json | jq .hits[0].path
    imgrec search ~/Downloads --top-k 1 --not-itself --json > hits.jsonl
    find . -name '*.jpg' -print0 | imgrec search --files-from - -0
    """
    speak_plainly(verbose)
    from imgrec.embedders.machine import Machine
    from imgrec.flows.cli.counting import counting
    from imgrec.flows.cli.query_files import QueryFiles, listed
    from imgrec.search.asking import Asking
    from imgrec.search.errors import QueryError
    from imgrec.search.searcher import Searcher
    from imgrec.search.terms import parse_terms
    from imgrec.search.weights import parse_weights

    chosen = Settings.load(library=library, top_k=top_k, ef_search=ef_search, device=device, models_root=models_root)
    ef = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    asking: Asking = {
        "where": filter_of(**filters),
        "not_itself": not_itself,
        "collapse_copies": collapse_copies,
        "weights": None if weights is None else parse_weights(weights),
        "expand": expand,
    }
    machine = Machine(chosen.models_root, chosen.device)
    terms = parse_terms(texts, images, minus)
    if bool(terms) == bool(queries or files_from):
        raise click.UsageError("give pictures to search one by one, or one mixture of --text, --image and --minus")
    limits, for_text = chosen.limits(), any(term.is_text for term in terms)
    pictures = QueryFiles(chain(queries, listed(files_from, nul) if files_from else ()), urls)
    shown: list[Any] = []
    with (
        Searcher(chosen.library, index, ef, **limits, machine=machine, for_text=for_text) as searcher,
        counting("answered") as answered,
    ):
        asked: Iterable[Any] = pictures
        if preview:  # one sheet has all of them
            asked = list(pictures)
            _check_height(len(asked) or 1, min(chosen.top_k, searcher.photos))
        if terms:
            answers: Iterable[Any] = [searcher.search_terms(terms, chosen.top_k, **asking)]
        else:
            answers = searcher.search_each(asked, chosen.top_k, scores == "all", **asking)
        for answer in answers:
            answered()
            if isinstance(answer, QueryError):
                complain(str(answer))
                pictures.failed = True
                continue
            _show(answer, as_json, is_filtered=asking["where"] is not None)
            if preview:
                shown.append(answer)
        if shown and preview:
            _write_sheet(preview, shown, as_json)
    if pictures.failed:
        raise SystemExit(FAILED)


def _check_height(queries: int, hits: int) -> None:
    from imgrec.search.preview import MAX_HEIGHT, block_height

    if (height := queries * block_height(hits)) > MAX_HEIGHT:
        raise click.UsageError(
            f"--preview: a contact sheet of so many hits ({queries:,} × {hits:,}) would be {height:,} pixels high, and "
            f"{MAX_HEIGHT:,} is the limit: search for fewer at a time, or with a smaller --top-k"
        )


def _write_sheet(preview: Path, answers: Sequence[Any], as_json: bool) -> None:
    from imgrec.search.preview import write_preview
    from imgrec.storage.photos.paths import printable

    write_preview(preview, answers)
    if not as_json:
        click.echo(f"preview: {visible(printable(str(preview)))}")


def _show(answer: Any, as_json: bool, is_filtered: bool) -> None:
    if as_json:
        print_json(_answer_json(answer))
    else:
        from imgrec.flows.cli.tables import print_answer

        print_answer(answer)
        if is_filtered and not answer.hits:
            click.echo("No photo of this index is one that the filter allows.\n")


def _answer_json(answer: Any) -> dict[str, object]:
    from imgrec.storage.photos.paths import printable

    hits: Iterable[Any] = answer.hits
    counted = ["copies"] if any(hit.copies is not None for hit in hits) else []
    keys = ["rank", "id", "path", "score", "scores", *counted]
    found = [{**{key: getattr(hit, key) for key in keys}, "root": hit.root, **file_facts(hit.file)} for hit in hits]
    return {
        "query": printable(answer.query),
        **(file_facts(answer.file) if answer.file else {"file": None}),
        "root": answer.root,
        "index": answer.index,
        "hits": found,
    }
