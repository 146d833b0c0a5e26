"""Look whether an ingest has anything to do, before anything is started for it."""

from collections.abc import Collection

from imgrec.flows.pipeline.plans import plan_indexes
from imgrec.flows.pipeline.run import Run
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.switching import count_waiting
from imgrec.search.indexes.updating import IndexReport, look_at_index, settle_indexes
from imgrec.storage.library import open_library
from imgrec.storage.mirror import are_settled, wants_merge
from imgrec.storage.registry.identity import Identified
from imgrec.storage.registry.pending import list_pending
from imgrec.storage.registry.unread import is_any
from imgrec.storage.scan import ScanReport, preview_scan


def look_at_photos(run: Run, accept_missing: bool = False) -> ScanReport | None:
    """Compare the photos with the registry, reading none; None if a scan would have something to do."""
    roots = run.library.roots
    if roots != open_library(run.library.root).roots:
        return None  # a scan that is accepted writes down where the photos are now
    comparison, walked = preview_scan(run.registry, roots, run.library.walking, accept_missing)
    if is_any(run.registry.connection, walked.left_alone):
        return None  # dates and cameras of an older library's photos are to be read
    if comparison.unchanged < comparison.found or comparison.gone or comparison.excluded or walked.unreadable_folders:
        return None
    left_out = dict(walked.left_out)
    return ScanReport(comparison.found, 0, Identified(), dict(walked.other_files), {}, left_out, walked.left_alone)


def is_embedded(run: Run, left_alone: Collection[str]) -> bool:
    """Whether every photo has its vectors, in shards that the registry knows, but for those of roots left alone."""
    return (
        are_settled(run.registry, run.library.shards_dir)
        and not list_pending(run.registry, run.fingerprints, left_alone)
        and not any(wants_merge(run.registry, fingerprint) for fingerprint in run.fingerprints.values())
        and not run.library.submissions_dir.is_dir()  # what is left of a run whose driver died
    )


def look_at_indexes(run: Run) -> dict[str, IndexReport] | None:
    """Compare the indexes with the registry; None if one is not in step."""
    if count_waiting(run.registry, run.library, run.fingerprints):
        return None
    reports = {}
    for plan in plan_indexes(run, run.chosen.indexes or ()):
        folder = IndexFolder(run.library.indexes_dir, plan.name)
        in_step, report = look_at_index(run.registry, folder, plan.members, plan.vector_settings, plan.parameters)
        if not in_step:
            return None
        if report is not None:
            reports[plan.name] = report
    settle_indexes(run.registry, run.fingerprints, reports.values())  # the next look finds that sooner
    return reports
