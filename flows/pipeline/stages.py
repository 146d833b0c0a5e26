"""The stages of an ingest: scan, embed, index. Each is also a flow of its own."""

import logging
from collections.abc import Collection, Sequence

from imgrec.embedders.derived import DerivedEmbedder
from imgrec.flows.pipeline.chunks import contents_of, divide, write_chunks
from imgrec.flows.pipeline.embedding import embed_chunks
from imgrec.flows.pipeline.plans import plan_indexes
from imgrec.flows.pipeline.report import Embedded
from imgrec.flows.pipeline.run import Run
from imgrec.search.indexes.switching import count_waiting
from imgrec.search.indexes.updating import IndexReport, settle_indexes
from imgrec.search.names import canonical_name
from imgrec.storage.mirror import are_settled, wants_merge
from imgrec.storage.registry.failures import list_failed, list_retryable
from imgrec.storage.registry.pending import list_pending
from imgrec.storage.scan import ScanReport
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.tasks import steps
from imgrec.tasks.driver import embedding_by
from imgrec.tasks.executors.choosing import choose_executor
from imgrec.tasks.executors.leftovers import Leftover, settle_leftovers

logger = logging.getLogger(__name__)


def list_to_retry(run: Run, all_failed: bool = False) -> set[bytes]:
    """List the contents that failed for a reason that may be over, or all that failed."""
    return list_failed(run.registry) if all_failed else list_retryable(run.registry, run.chosen.limits())


def retry_stage(run: Run, all_failed: bool = False) -> int:
    """Let images that failed for a temporary reason be tried again, or all that failed; return how many contents."""
    contents = list_to_retry(run, all_failed)
    if contents:
        run.calls.call(steps.retry, run.library, contents, by_itself=not all_failed)
    return len(contents)


def scan_stage(run: Run, accept_missing: bool = False) -> ScanReport:
    """Bring the registry up to date with the folders of photos."""
    share = 1.0 if accept_missing else run.chosen.max_missing_share
    with run.stages.timed("scan"):
        return run.calls.call(steps.scan, run.library, share, run.chosen.decode_timeout_s)


def embed_stage(run: Run, modalities: Sequence[str] | None = None, left_alone: Collection[str] = ()) -> Embedded:
    """Give every image its vectors, of all the library's modalities or some, a task run a chunk; those that are only in
    roots `left_alone` go on waiting."""
    with run.stages.timed("embed"):
        leftovers = settle_leftovers(run.library)
        if not are_settled(run.registry, run.library.shards_dir):
            run.calls.call(steps.adopt, run.library)
        fingerprints = {name: run.fingerprints[name] for name in modalities or run.specs}
        for modality, fingerprint in fingerprints.items():
            run.registry.copy_vectors(modality, fingerprint)
        of_pictures = {
            name: found for name, found in fingerprints.items() if not isinstance(run.embedders[name], DerivedEmbedder)
        }
        embedded = _embed_pending(run, of_pictures, left_alone, leftovers)
        for name in [name for name in fingerprints if name not in of_pictures]:
            if list_pending(run.registry, {name: fingerprints[name]}, left_alone):
                run.calls.call(steps.derive, run.library, name)
        for modality, fingerprint in fingerprints.items():
            if wants_merge(run.registry, fingerprint):
                run.calls.call(steps.merge, run.library, modality, fingerprint)
        if ThumbnailStore(run.library.thumbnails_dir).wants_merge:
            run.calls.call(steps.merge_thumbnails, run.library)
        return embedded


def index_stage(run: Run, names: Sequence[str] | None = None, rebuild: bool = False) -> dict[str, IndexReport]:
    """Bring indexes in step with the registry: those named, or one per modality and their combination, and all others
    that are there. A `rebuild` and the settings of graphs are for those named, or else for all.

    Those that change to vectors of other settings do so together, after the last one is built; while photos wait for
    such vectors, none does.
    """
    reports: dict[str, IndexReport] = {}
    names = [canonical_name(name) for name in names or ()]
    with run.stages.timed("index"):
        waiting = count_waiting(run.registry, run.library, run.fingerprints)
        if waiting:
            logger.warning(
                "%s photos wait for vectors of the new settings, so the old ones go on serving: `imgrec ingest` "
                "completes them",
                f"{waiting:,}",
            )
        for plan in plan_indexes(run, names, as_served=waiting > 0):
            run.stop_if_asked()
            report = run.calls.call(steps.index, run.library, *plan, rebuild and (not names or plan.name in names))
            if report is not None:
                reports[plan.name] = report
        run.stop_if_asked()
        held = [report.manifest for report in reports.values() if not report.published]
        if held:
            run.calls.call(steps.switch, run.library, held)
        settle_indexes(run.registry, run.fingerprints, reports.values())
    return reports


def _embed_pending(
    run: Run, fingerprints: dict[str, str], left_alone: Collection[str], leftovers: Sequence[Leftover]
) -> Embedded:
    with embedding_by(choose_executor(run.chosen, run.library, run.embedders)) as executor:
        resumed = executor.resume(leftovers)
        groups = list_pending(run.registry, fingerprints, left_alone, contents_of(resumed))
        parts = divide(groups, executor.divide)
        total = sum(chunk.images for chunk in resumed) + sum(part.images for part in parts)
        run.progress.expect(total)
        chunks = write_chunks(run.library, run.registry, parts, fingerprints, run.chosen, executor.chunks_dir)
        return embed_chunks(run, executor, chunks, total)
