"""`imgrec explore`: a map of the library; `imgrec thumbnails`: small pictures of all photos."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly, visible
from imgrec.flows.cli.options import chosen_of, json_option, library_option, settings_options
from imgrec.flows.cli.outcome import load_flow
from imgrec.flows.pipeline.interrupts import cleaning_up

if TYPE_CHECKING:  # knows the index, which takes a second to import
    from imgrec.flows.pipeline.exploring import ExploreReport


def _page_path(_context: click.Context, _option: click.Parameter, value: str | None) -> Path | None:
    """Refuse before the work what no page can be written to."""
    if value is None:
        return None
    path = Path(value)
    if path.is_dir():
        raise click.BadParameter(f"{value} is a folder: give the name of a file in it")
    if path.suffix.lower() not in (".html", ".htm"):
        raise click.BadParameter(f"{value}: it will be HTML, so its name has to end in .html")
    if not path.parent.is_dir():
        raise click.BadParameter(f"{value}: there is no folder {path.parent}")
    return path


@click.command()
@library_option
@click.option("--index", metavar="NAME", help="Index whose neighbours the map shows; default: the library's.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N",
              help="Map so many photos, drawn at random. Such a map is kept beside the whole one.")  # fmt: skip
@click.option("--refit", is_flag=True, help="Lay out the whole map anew, from where it is.")
@click.option("--output", "-o", metavar="FILE.html", default="map.html", show_default=True, callback=_page_path,
              help="The page to write.")  # fmt: skip
@click.option("--no-page", is_flag=True, help="Write no page.")
@click.option("--page-photos", type=click.IntRange(min=1), default=10_000, show_default=True, metavar="N",
              help="Photos on the page, at most.")  # fmt: skip
@click.option("--no-paths", is_flag=True, help="Leave names and folders of photos out of the page.")
@settings_options("n_neighbors", "min_dist", "min_cluster_size", "map_points", "graph_points", "graph_threshold",
                  "map_seed", "workers", "device", "models_root")  # fmt: skip
@json_option
@click.pass_obj
def explore(
    verbose: bool,
    /,
    library: str | None,
    index: str | None,
    limit: int | None,
    refit: bool,
    output: Path,
    no_page: bool,
    page_photos: int,
    no_paths: bool,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Map a library: photos that are alike lie together, in clusters, linked to those most like them.

    The map is kept in the library. Photos that come later get a place on it by their neighbours, and nothing else
    moves; when more than a fifth of them came later, all is laid out anew from where it was. The page shows the map
    with the photos' thumbnails, in one file that opens offline.

    \b
    imgrec explore
    imgrec explore --index dreamsim --limit 2000 --output dreamsim.html
    """
    given = chosen_of(settings)
    chosen = Settings.load(library=library, **given)
    options: dict[str, Any] = {
        "index": index,
        "limit": limit,
        "refit": refit,
        "output": None if no_page else output,
        "page_photos": page_photos,
        "with_paths": not no_paths,
    }
    if chosen.orchestrate == "none":
        speak_plainly(verbose)
        from imgrec.flows.pipeline import exploring
        from imgrec.tasks.calls import PlainCalls

        run: Callable[..., ExploreReport] = partial(exploring.explore, chosen, PlainCalls(chosen.retries))
    else:
        run = partial(load_flow("explore_library", verbose), library=library, settings=given)
    with cleaning_up():
        report = run(**options)
    if as_json:
        print_json(report.as_json())
    else:
        from imgrec.flows.cli.tables import print_explored

        print_explored(report)


@click.command()
@library_option
@settings_options("workers", "max_megapixels", "decode_timeout_s")
@json_option
@click.pass_obj
def thumbnails(verbose: bool, /, library: str | None, as_json: bool, **settings: str | None) -> None:
    """Make the thumbnails that are lacking, of 64 pixels each.

    An ingest makes them while it decodes photos; this is for libraries that are older than that, or were made without.

    \b
    imgrec thumbnails
    """
    speak_plainly(verbose)
    from imgrec.flows.pipeline.exploring import thumbnails as make
    from imgrec.tasks.calls import PlainCalls

    chosen = Settings.load(library=library, **chosen_of(settings))
    with cleaning_up():
        made = make(chosen, PlainCalls(chosen.retries))
    if as_json:
        print_json({"library": str(chosen.library), "made": made})
    else:
        click.echo(f"{visible(str(chosen.library))}: {made:,} thumbnails made")
