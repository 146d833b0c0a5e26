"""The main flow: photos in, an up-to-date library out."""

from collections.abc import Mapping
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
    name="ingest-images",
    flow_run_name=partial(run_name, "ingest"),
    task_runner=ThreadPoolTaskRunner(max_workers=STEPS_AT_ONCE),  # type: ignore[arg-type] # invariant in its future
)
@skipped_if_locked
def ingest_images(
    images_root: Path | Mapping[str, Path | None] | list[str] | None = None,
    library: Path | None = None,
    modalities: list[str] | None = None,
    indexes: list[str] | None = None,
    photos_moved: bool = False,
    accept_missing: bool = False,
    reembed: bool = False,
    retry_failed: bool = False,
    settings: dict[str, Any] | None = None,
) -> RunReport:
    """Bring a library up to date with its folders of photos: scan, embed, mirror, index.

    Args:
        images_root: folder of photos, or several by name, {"nas": "/mnt/nas", "laptop": "/home/me/Pictures"}, of which
            null instead of a folder removes one; a library remembers its own.
        library: folder of the library; it is made if it is not there.
        modalities: modalities to compute beside those the library has.
        indexes: indexes to build beside those that are there; default: one per modality, and their combination.
        photos_moved: the photos of this library are in `images_root` now, or of some of its roots in these folders.
        accept_missing: mark photos missing however many there are.
        reembed: give all images new vectors where a setting that changes vectors differs.
        retry_failed: try all failed images again, not only those whose failure may be over.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(
        images_root=images_root, library=library, modalities=modalities, indexes=indexes, **(settings or {})
    )
    return ingesting.ingest(
        chosen,
        PrefectCalls(chosen.retries),
        photos_moved=photos_moved,
        accept_missing=accept_missing,
        reembed=reembed,
        retry_failed=retry_failed,
    )
