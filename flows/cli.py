"""The command line: `imgrec`. Commands that only read import neither Prefect nor torch."""

import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from conf.errors import SettingsError
from conf.settings import Settings
from flows.options import json_option, library_option, settings_options
from storage.errors import ImgrecError, PhotosVanishedError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="image-recommender", prog_name="imgrec")
@click.option("--verbose", "-v", is_flag=True, help="Show Prefect's log, and tracebacks of errors.")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Which of my photos look like this one?

    \b
    imgrec ingest ~/Pictures          make or renew a library of a folder of photos
    imgrec search photo.jpg           find the photos most like a picture
    imgrec search id:7 --preview hits.png

    Every setting can also stand in imgrec.toml (in the library or the working directory) or in an IMGREC_* variable.
    """
    context.obj = verbose


@cli.command()
@click.argument("photos", required=False)
@library_option
@click.option("--modality", "modalities", multiple=True, metavar="NAME", help="Modality to compute; may be repeated.")
@click.option("--index", "indexes", multiple=True, metavar="NAME", help="Index to build; may be repeated.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, how long it would take, and change nothing.")
@click.option("--photos-moved", is_flag=True, help="The library's photos are in PHOTOS now.")
@click.option("--accept-missing", is_flag=True, help="Mark photos missing, however many are gone.")
@settings_options(
    "batch_size", "workers", "bins", "decode_min_side", "max_megapixels", "hnsw_m", "ef_construction", "ef_search",
    "max_failed_share", "max_missing_share",
)  # fmt: skip
@json_option
@click.pass_obj
def ingest(
    verbose: bool,
    /,
    photos: str | None,
    library: str | None,
    modalities: tuple[str, ...],
    indexes: tuple[str, ...],
    dry_run: bool,
    photos_moved: bool,
    accept_missing: bool,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Make or renew the library of a folder of photos.

    Only what is new or changed is computed. Stop it whenever you like: the next run goes on from there.
    Without PHOTOS, the library's own folder is taken.

    \b
    imgrec ingest ~/Pictures
    imgrec ingest ~/Pictures --dry-run
    imgrec ingest --library ~/photos.imgrec --workers 8
    """
    chosen = {name: value for name, value in settings.items() if value is not None}
    where = {
        "images_root": photos,
        "library": library,
        "modalities": list(modalities) or None,
        "indexes": list(indexes) or None,
    }
    loaded = Settings.load(**where, **chosen)  # what is wrong with them is told before Prefect starts
    if dry_run:
        _print_estimate(loaded, as_json)
        return
    options = {**where, "photos_moved": photos_moved, "accept_missing": accept_missing, "settings": chosen}
    _run_ingest(options, as_json, verbose)


@cli.command()
@library_option
@settings_options("bins", "decode_min_side", "workers", "batch_size")
@json_option
@click.pass_obj
def reembed(verbose: bool, /, library: str | None, as_json: bool, **settings: str | None) -> None:
    """Give all images new vectors, by other settings.

    The old vectors and indexes serve until the new ones are complete.

    \b
    imgrec reembed --bins 16x8x8
    """
    from storage.library import open_library

    chosen = {name: value for name, value in settings.items() if value is not None}
    open_library(Settings.load(library=library, **chosen).library)
    _run_ingest({"library": library, "reembed": True, "settings": chosen}, as_json, verbose)


@cli.group()
def train() -> None:
    """Learn something from a library's own photos."""


@train.command()
@library_option
@settings_options("workers")
@json_option
@click.pass_obj
def sift(verbose: bool, /, library: str | None, as_json: bool, **settings: str | None) -> None:
    """Learn a SIFT codebook from this library's photos.

    It takes the place of the packaged one at the next `imgrec ingest`, which gives all photos new sift vectors; the old
    ones serve until then. Vectors of two codebooks cannot be compared.

    \b
    imgrec train sift
    imgrec ingest
    """
    from flows.console import speak_plainly

    speak_plainly(verbose)
    from flows.server import tame_temporary_server
    from flows.train_sift import train_sift

    tame_temporary_server()
    trained = train_sift(library, {name: value for name, value in settings.items() if value is not None})
    if as_json:
        _print_json(vars(trained))
    else:
        click.echo(f"model {trained.model}, of {trained.photos:,} photos; `imgrec ingest` embeds all photos with it")


@cli.command()
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
    from flows.console import speak_plainly
    from search.errors import QueryError
    from search.searcher import Searcher

    speak_plainly(verbose)
    chosen = Settings.load(library=library, **settings)
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    failed = False
    with Searcher(chosen.library, index, ef_search, chosen.max_megapixels) as searcher:
        for number, query in enumerate(queries, 1):
            try:
                answer = searcher.search([query], chosen.top_k, scores == "all")[0]
            except QueryError as error:
                _complain(str(error))
                failed = True
                continue
            if as_json:
                _print_json(_answer_json(answer))
            else:
                from flows.tables import print_answer

                print_answer(answer)
            if preview:
                _write_preview(Path(preview), number, len(queries), searcher, answer, as_json)
    if failed:
        raise SystemExit(FAILED)


@cli.command()
@library_option
@json_option
def status(library: str | None, as_json: bool) -> None:
    """Show what a library holds: images, vectors, indexes."""
    from flows.status import read_status

    facts = read_status(Settings.load(library=library).library)
    if as_json:
        _print_json({key: facts[key] for key in ("images", "vectors", "indexes")})
    else:
        from flows.tables import print_status

        print_status(facts)


@cli.command()
@library_option
@json_option
def failures(library: str | None, as_json: bool) -> None:
    """List the images that cannot be used, and why."""
    from storage.library import open_library
    from storage.registry import Registry

    home = open_library(Settings.load(library=library).library)
    with Registry.open_for_reading(home.registry_path) as registry:
        if as_json:
            for row in registry.failures():
                _print_json({"id": row.id, "path": row.path, "status": row.status, "reason": row.reason})
        else:
            from flows.tables import print_failures

            print_failures(registry.failures())


@cli.command()
@click.argument("statement")
@library_option
@json_option
def sql(statement: str, library: str | None, as_json: bool) -> None:
    """Ask the library in SQL (DuckDB). Views: `images`, and one per modality (image_id, path, vector).

    \b
    imgrec sql "select format, count(*) from images group by format"
    imgrec sql "select path, vector[1:4] from color limit 3"
    """
    from embedders.catalogue import create_embedders
    from flows.tables import print_rows
    from storage.library import open_library
    from storage.queries import run_sql

    home = open_library(Settings.load(library=library).library)
    embedders = create_embedders(home.modalities, home.vector_settings, home.models_dir)
    fingerprints = {name: embedder.spec.fingerprint for name, embedder in embedders.items()}
    names, rows = run_sql(home, statement, fingerprints)
    if as_json:
        for row in rows:
            _print_json(dict(zip(names, row, strict=True)))
    else:
        print_rows(names, rows)


def main() -> None:
    """Run the command line; every failure becomes one line and an exit code."""
    verbose = any(argument in ("-v", "--verbose") for argument in sys.argv[1:2])
    try:
        cli(standalone_mode=False)
        code = 0
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = WRONG_USAGE
    except SettingsError as error:
        _complain(str(error))
        code = WRONG_USAGE
    except (KeyboardInterrupt, click.Abort):
        _complain("interrupted; the next `imgrec ingest` goes on from here")
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:  # noqa: BLE001 - the last stop: a line for the user, the traceback on request
        if verbose:
            traceback.print_exc()
        _complain(_describe(error))
        code = FAILED
    sys.exit(code)


def _run_ingest(options: dict[str, Any], as_json: bool, verbose: bool) -> None:
    from flows.console import speak_plainly

    speak_plainly(verbose)
    from flows.ingest_images import ingest_images
    from flows.server import tame_temporary_server

    tame_temporary_server()
    try:
        report = ingest_images(**options)
    except PhotosVanishedError as error:
        if not sys.stdin.isatty() or as_json:
            raise
        _complain(str(error))
        click.confirm("Mark them missing?", abort=True, err=True)
        report = ingest_images(**{**options, "accept_missing": True})
    if as_json:
        _print_json(report.as_json())
    else:
        from flows.tables import print_report

        print_report(report)
    if report.scan.found == 0:
        click.echo(f"imgrec: warning: no photos in {report.images_root}", err=True)


def _print_estimate(settings: Settings, as_json: bool) -> None:
    from flows.dry_run import estimate_ingest

    estimate = estimate_ingest(settings)
    if as_json:
        _print_json(vars(estimate))
    else:
        from flows.tables import print_estimate

        print_estimate(estimate)


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


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str), flush=True)


def _complain(message: str) -> None:
    click.echo(f"imgrec: error: {message}", err=True)


def _describe(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ImgrecError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, sqlite3.OperationalError):
        return f"SQLite: {text}: check the disk that the library is on, then run the command again"
    if text.startswith("Failed to reach API"):
        server = "start it with `prefect server start`, or unset PREFECT_API_URL to run without one"
        return f"Prefect's server does not answer ({text}): {server}"
    return f"{type(error).__name__}: {text} (run `imgrec --verbose …` for the details)"


if __name__ == "__main__":
    main()
