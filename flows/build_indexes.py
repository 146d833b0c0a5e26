"""The last stage as a flow of its own: indexes over the vectors that are there."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import ingesting
from imgrec.flows.pipeline.report import RunReport
from imgrec.flows.pipeline.run import run_name
from imgrec.flows.skipping import skipped_if_locked
from imgrec.tasks.prefect_calls import PrefectCalls


@flow(name="build-indexes", flow_run_name=partial(run_name, "index"))
@skipped_if_locked
def build_indexes(
    library: Path | str | None = None,
    indexes: list[str] | None = None,
    rebuild: bool = False,
    settings: dict[str, Any] | None = None,
) -> RunReport:
    """Bring indexes in step with the vectors of a library.

    Args:
        library: folder of the library.
        indexes: indexes to build beside those that are there; default: one per modality, and their combination.
        rebuild: build each (of `indexes`, if given) as one graph, even if it could be kept or added to.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, indexes=indexes, **(settings or {}))
    return ingesting.build(chosen, PrefectCalls(chosen.retries), rebuild=rebuild)
