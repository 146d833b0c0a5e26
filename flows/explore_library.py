"""Exploring as a flow: the map of a library, in step, as tables in the library and as a page."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import exploring
from imgrec.flows.pipeline.exploring import ExploreReport
from imgrec.flows.pipeline.run import run_name
from imgrec.tasks.prefect_calls import PrefectCalls


@flow(name="explore-library", flow_run_name=partial(run_name, "explore"))
def explore_library(
    library: Path | str | None = None,
    index: str | None = None,
    limit: int | None = None,
    refit: bool = False,
    output: Path | str | None = None,
    page_photos: int = exploring.PAGE_PHOTOS,
    with_paths: bool = True,
    settings: dict[str, Any] | None = None,
) -> ExploreReport:
    """Make the map of a library's photos, or bring it in step, and write it as a page.

    Args:
        library: folder of the library.
        index: index whose neighbours the map shows; default: the one that is searched by default.
        limit: map so many photos, drawn at random; default: all.
        refit: lay out the whole map anew, from where it is.
        output: HTML file to write; default: none.
        page_photos: photos that it shows at most.
        with_paths: write names and folders of photos into it.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    return exploring.explore(
        chosen,
        PrefectCalls(chosen.retries),
        index=index,
        limit=limit,
        refit=refit,
        output=None if output is None else Path(output),
        page_photos=page_photos,
        with_paths=with_paths,
    )
