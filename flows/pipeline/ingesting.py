"""The pipeline: photos in, an up-to-date library out, whole or a stage at a time; the caller says how steps run."""

from collections.abc import Sequence

from imgrec.conf.settings import Settings
from imgrec.embedders.catalogue import check_stored_models
from imgrec.flows.pipeline.closing import close_run
from imgrec.flows.pipeline.looking import is_embedded, look_at_indexes, look_at_photos
from imgrec.flows.pipeline.report import Embedded, RunReport
from imgrec.flows.pipeline.run import open_run
from imgrec.flows.pipeline.stages import embed_stage, index_stage, list_to_retry, retry_stage, scan_stage
from imgrec.storage.library import is_library, open_library
from imgrec.tasks.calls import Calls, PlainCalls


def ingest(
    chosen: Settings,
    calls: Calls,
    *,
    photos_moved: bool = False,
    accept_missing: bool = False,
    reembed: bool = False,
    retry_failed: bool = False,
) -> RunReport:
    """Bring a library up to date with its folders of photos: scan, embed, mirror, index."""
    with open_run(chosen, calls, photos_moved, reembed, embeds=True, indexes=chosen.indexes) as run:
        check_stored_models(run.library.modalities, run.library.vector_settings, chosen.models_root)
        retried = retry_stage(run, retry_failed)
        scanned = scan_stage(run, accept_missing)
        embedded = embed_stage(run, left_alone=scanned.left_alone)
        built = index_stage(run, chosen.indexes)
        return close_run(run, "ingest", scanned, embedded, built, retried)


def ingest_nothing(
    chosen: Settings,
    *,
    photos_moved: bool = False,
    accept_missing: bool = False,
    reembed: bool = False,
    retry_failed: bool = False,
) -> RunReport | None:
    """Look whether an ingest has nothing to do, and report that; None if there is something.

    Needs no orchestrator and reads no photo. Of a library of ten million photos it takes the time of a walk, which the
    ingest then takes again.
    """
    if not is_library(chosen.library):
        return None
    calls = PlainCalls(chosen.retries)
    with open_run(chosen, calls, photos_moved, reembed, embeds=True, indexes=chosen.indexes) as run:
        check_stored_models(run.library.modalities, run.library.vector_settings, chosen.models_root)
        if list_to_retry(run, retry_failed):
            return None
        with run.stages.timed("scan"):
            scanned = look_at_photos(run, accept_missing)
        with run.stages.timed("embed"):
            if scanned is None or not is_embedded(run, scanned.left_alone):
                return None
        with run.stages.timed("index"):
            built = look_at_indexes(run)
        return None if built is None else close_run(run, "ingest", scanned, Embedded(0, 0), built)


def scan(
    chosen: Settings,
    calls: Calls,
    *,
    photos_moved: bool = False,
    accept_missing: bool = False,
    retry_failed: bool = False,
) -> RunReport:
    """Bring a library's registry up to date with its folders of photos, and compute nothing."""
    with open_run(chosen, calls, photos_moved) as run:
        retried = retry_stage(run, retry_failed)
        return close_run(run, "scan", scan_stage(run, accept_missing), retried=retried)


def embed(
    chosen: Settings, calls: Calls, *, modalities: Sequence[str] | None = None, retry_failed: bool = False
) -> RunReport:
    """Embed the images of a library that wait for vectors, of all its modalities or some."""
    open_library(chosen.library)
    with open_run(chosen, calls, embeds=True) as run:
        check_stored_models(modalities or run.library.modalities, run.library.vector_settings, chosen.models_root)
        retried = retry_stage(run, retry_failed)
        return close_run(
            run, "embed", embedded=embed_stage(run, modalities, run.library.roots.absent()), retried=retried
        )


def build(chosen: Settings, calls: Calls, *, rebuild: bool = False) -> RunReport:
    """Bring indexes in step with the vectors of a library."""
    open_library(chosen.library)
    with open_run(chosen, calls, indexes=chosen.indexes) as run:
        return close_run(run, "index", built=index_stage(run, chosen.indexes, rebuild))
