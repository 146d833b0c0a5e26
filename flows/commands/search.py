"""`imgrec search`: what looks like this?"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from conf.settings import Settings
from flows.console import FAILED, complain, print_json, speak_plainly
from flows.options import json_option, library_option, settings_options


@click.command()
@click.argument("queries", nargs=-1, required=True, metavar="QUERY...")
@library_option
@click.option("--index", metavar="NAME", help="Index to search; default: the library's.")
@settings_options("top_k", "ef_search")
@click.option("--scores", type=click.Choice(["index", "all"]), default="index", show_default=True,
              help="Modalities to score for a new picture; id:N always has all.")  # fmt: skip
@click.option("--preview", metavar="FILE", help="Write a contact sheet of the query and its hits, as PNG.")
@json_option
@click.pass_obj
def search(
    verbose: bool,
    /,
    queries: tuple[str, ...],
    library: str | None,
    index: str | None,
    scores: str,
    preview: str | None,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Find the photos most like each QUERY: the path of a picture, or id:N for a photo of the library.

    Scores are cosines: 1 is the same, 0 has nothing in common.

    \b
    imgrec search holiday.jpg
    imgrec search id:7 id:12 --top-k 20
    imgrec search holiday.jpg --preview hits.png
    imgrec search holiday.jpg --json | jq .hits[0].path
    """
    speak_plainly(verbose)
    from search.errors import QueryError
    from search.searcher import Searcher

    chosen = Settings.load(library=library, **settings)
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    failed = False
    with Searcher(chosen.library, index, ef_search, **chosen.limits()) as searcher:
        for number, query in enumerate(queries, 1):
            try:
                answer = searcher.search([query], chosen.top_k, scores == "all")[0]
            except QueryError as error:
                complain(str(error))
                failed = True
                continue
            if as_json:
                print_json(_answer_json(answer))
            else:
                from flows.tables import print_answer

                print_answer(answer)
            if preview:
                _write_preview(Path(preview), number, len(queries), searcher, answer, as_json)
    if failed:
        raise SystemExit(FAILED)


def _write_preview(path: Path, number: int, queries: int, searcher: Any, answer: Any, as_json: bool) -> None:
    from search.preview import write_preview

    if queries > 1:  # one sheet a query
        path = path.with_stem(f"{path.stem}-{number}")
    write_preview(path, answer, searcher.query_file(answer.query), Path(searcher.library.images_root))
    if not as_json:
        click.echo(f"preview: {path}")


def _answer_json(answer: Any) -> dict[str, object]:
    keys = ("rank", "id", "path", "score", "scores")
    hits: Iterable[Any] = answer.hits
    return {
        "query": answer.query.encode("utf-8", "backslashreplace").decode(),
        "index": answer.index,
        "hits": [{key: getattr(hit, key) for key in keys} for hit in hits],
    }
