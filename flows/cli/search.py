"""`imgrec search`: what looks like this?"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import complain, file_facts, print_json, speak_plainly, visible
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.options import json_option, library_option, settings_options, sheet_path


@click.command()
@click.argument("queries", nargs=-1, metavar="[QUERY]...")
@library_option
@click.option("--text", "texts", multiple=True, metavar="WORDS", help="Words that describe a photo; may be repeated.")
@click.option("--image", "images", multiple=True, metavar="PICTURE",
              help="A picture that is mixed with the words; may be repeated.")  # fmt: skip
@click.option("--minus", multiple=True, metavar="WHAT", help="Words or a picture to get away from; may be repeated.")
@click.option("--index", metavar="NAME", help="Index to search; default: the library's.")
@settings_options("top_k", "ef_search", "device", "models_root")
@click.option("--scores", type=click.Choice(["index", "all"]), default="index", show_default=True,
              help="Modalities to score for a new picture; id:N always has all.")  # fmt: skip
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
    texts: tuple[str, ...],
    images: tuple[str, ...],
    minus: tuple[str, ...],
    library: str | None,
    index: str | None,
    scores: str,
    weights: str | None,
    expand: bool,
    preview: Path | None,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Find the photos most like each QUERY: the path of a picture, or id:N for a photo of the library.

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
    imgrec search id:7 --weights color=1,efficientnet=2
    imgrec search holiday.jpg --preview hits.png
    imgrec search holiday.jpg --json | jq .hits[0].path
    """
    speak_plainly(verbose)
    from imgrec.embedders.machine import Machine
    from imgrec.search.errors import QueryError
    from imgrec.search.searcher import Searcher
    from imgrec.search.terms import parse_terms
    from imgrec.search.weights import parse_weights

    chosen = Settings.load(library=library, **settings)
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    machine = Machine(chosen.models_root, chosen.device)
    failed = False
    shown: list[Any] = []
    terms = parse_terms(texts, images, minus)
    shares = None if weights is None else parse_weights(weights)
    if bool(terms) == bool(queries):
        raise click.UsageError("give pictures to search one by one, or one mixture of --text, --image and --minus")
    limits, for_text = chosen.limits(), any(term.is_text for term in terms)
    with Searcher(chosen.library, index, ef_search, **limits, machine=machine, for_text=for_text) as searcher:
        if preview:
            _check_height(len(queries) or 1, min(chosen.top_k, searcher.photos))
        if terms:
            shown.append(searcher.search_terms(terms, chosen.top_k, shares, expand))
            _show(shown[-1], as_json)
        for query in queries:
            try:
                shown += searcher.search([query], chosen.top_k, scores == "all", shares, expand)
            except QueryError as error:
                complain(str(error))
                failed = True
                continue
            _show(shown[-1], as_json)
        if preview and shown:
            _write_sheet(preview, shown, as_json)
    if failed:
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


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        print_json(_answer_json(answer))
    else:
        from imgrec.flows.cli.tables import print_answer

        print_answer(answer)


def _answer_json(answer: Any) -> dict[str, object]:
    from imgrec.storage.photos.paths import printable

    keys = ("rank", "id", "path", "score", "scores")
    hits: Iterable[Any] = answer.hits
    found = [{**{key: getattr(hit, key) for key in keys}, "root": hit.root, **file_facts(hit.file)} for hit in hits]
    return {
        "query": printable(answer.query),
        **(file_facts(answer.file) if answer.file else {"file": None}),
        "root": answer.root,
        "index": answer.index,
        "hits": found,
    }
