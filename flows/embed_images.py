"""The second stage as a flow of its own: vectors for the photos that the registry knows."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import ingesting
from imgrec.flows.pipeline.report import RunReport
from imgrec.flows.pipeline.run import run_name
from imgrec.flows.skipping import skipped_if_locked
from imgrec.tasks.calls import STEPS_AT_ONCE
from imgrec.tasks.prefect_calls import PrefectCalls


@flow(
    name="embed-images",
    flow_run_name=partial(run_name, "embed"),
    task_runner=ThreadPoolTaskRunner(max_workers=STEPS_AT_ONCE),  # type: ignore[arg-type] # invariant in its future
)
@skipped_if_locked
def embed_images(
    library: Path | str | None = None,
    modalities: list[str] | None = None,
    retry_failed: bool = False,
    settings: dict[str, Any] | None = None,
) -> RunReport:
    """Embed the images of a library that wait for vectors, as far as they were scanned.

    Args:
        library: folder of the library.
        modalities: modalities to compute, the library's own or new ones, which become its own; default: all it has.
        retry_failed: try all failed images again, not only those whose failure may be over.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, modalities=modalities, **(settings or {}))
    return ingesting.embed(chosen, PrefectCalls(chosen.retries), modalities=modalities, retry_failed=retry_failed)
