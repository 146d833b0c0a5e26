"""`imgrec search`: what looks like this?"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from conf.settings import Settings
from flows.console import FAILED, complain, print_json, speak_plainly
from flows.options import json_option, library_option, settings_options


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
@click.option("--preview", metavar="FILE", help="Write a contact sheet of the query and its hits, as PNG.")
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
    preview: str | None,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Find the photos most like each QUERY: the path of a picture, or id:N for a photo of the library.

    Or those most like one mixture of words and pictures, --text, --image and --minus. A number before a colon weighs
    what follows: "2:red car". What is taken away is a picture if it is id:N or a file, and words otherwise. Words need
    an index that reads text, which is openclip, and take that one unless --index names another.

    Scores are cosines: 1 is the same, 0 has nothing in common.

    \b
    imgrec search --text "a red car"
    imgrec search --text "2:a red car" --image id:7 --minus snow
    imgrec search holiday.jpg
    imgrec search id:7 id:12 --top-k 20
    imgrec search holiday.jpg --preview hits.png
    imgrec search holiday.jpg --json | jq .hits[0].path
    """
    speak_plainly(verbose)
    from embedders.machine import Machine
    from search.errors import QueryError
    from search.searcher import Searcher
    from search.terms import parse_terms

    chosen = Settings.load(library=library, **settings)
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    machine = Machine(chosen.models_root, chosen.device)
    failed = False
    terms = parse_terms(texts, images, minus)
    if bool(terms) == bool(queries):
        raise click.UsageError("give pictures to search one by one, or one mixture of --text, --image and --minus")
    limits, for_text = chosen.limits(), any(term.is_text for term in terms)
    with Searcher(chosen.library, index, ef_search, **limits, machine=machine, for_text=for_text) as searcher:
        if terms:
            _show(searcher, searcher.search_terms(terms, chosen.top_k), preview and Path(preview), None, as_json)
        for number, query in enumerate(queries, 1):
            try:
                answer = searcher.search([query], chosen.top_k, scores == "all")[0]
            except QueryError as error:
                complain(str(error))
                failed = True
                continue
            path = preview and Path(preview)
            if path and len(queries) > 1:  # one sheet a query
                path = path.with_stem(f"{path.stem}-{number}")
            _show(searcher, answer, path, searcher.query_file(answer.query), as_json)
    if failed:
        raise SystemExit(FAILED)


def _show(searcher: Any, answer: Any, preview: Path | str | None, query_file: Path | None, as_json: bool) -> None:
    if as_json:
        print_json(_answer_json(answer))
    else:
        from flows.tables import print_answer

        print_answer(answer)
    if preview:
        from search.preview import write_preview

        write_preview(Path(preview), answer, query_file, Path(searcher.library.images_root))
        if not as_json:
            click.echo(f"preview: {preview}")


def _answer_json(answer: Any) -> dict[str, object]:
    keys = ("rank", "id", "path", "score", "scores")
    hits: Iterable[Any] = answer.hits
    return {
        "query": answer.query.encode("utf-8", "backslashreplace").decode(),
        "index": answer.index,
        "hits": [{key: getattr(hit, key) for key in keys} for hit in hits],
    }
