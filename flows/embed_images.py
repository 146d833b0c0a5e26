"""The second stage as a flow of its own: vectors for the photos that the registry knows."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from imgrec.conf.settings import Settings
from imgrec.embedders.catalogue import check_stored_models
from imgrec.flows.pipeline.closing import close_run
from imgrec.flows.pipeline.report import RunReport
from imgrec.flows.pipeline.run import open_run, run_name, skipped_if_locked
from imgrec.flows.pipeline.stages import CHUNKS_IN_FLIGHT, embed_stage, retry_stage
from imgrec.storage.library import open_library


@flow(
    name="embed-images",
    flow_run_name=partial(run_name, "embed"),
    task_runner=ThreadPoolTaskRunner(max_workers=CHUNKS_IN_FLIGHT),  # type: ignore[arg-type] # invariant in its future
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
    open_library(chosen.library)
    with open_run(chosen, embeds=True) as run:
        check_stored_models(modalities or run.library.modalities, run.library.vector_settings, chosen.models_root)
        retried = retry_stage(run, retry_failed)
        return close_run(run, "embed", embedded=embed_stage(run, modalities), retried=retried)
