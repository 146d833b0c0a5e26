"""How every writing flow ends: its report, logged to MLflow."""

import shlex
from dataclasses import replace

from imgrec.flows.pipeline.libraries import describe_choice
from imgrec.flows.pipeline.outcome import outcome_name, outcome_tables
from imgrec.flows.pipeline.report import Embedded, RunReport
from imgrec.flows.pipeline.run import Run, run_name
from imgrec.search.indexes.updating import IndexReport
from imgrec.storage.errors import ImgrecError
from imgrec.storage.registry.shard_rows import shard_bytes
from imgrec.storage.scan import ScanReport
from imgrec.tasks.tracking import RunRecord, TrackedRun, postpone, track


class TooManyFailuresError(ImgrecError):
    """More images failed than `max_failed_share` allows; the library is complete all the same."""


def close_run(
    run: Run,
    what: str,
    scanned: ScanReport | None = None,
    embedded: Embedded | None = None,
    built: dict[str, IndexReport] | None = None,
    retried: int = 0,
) -> RunReport:
    """Report what the stages did, and log it as an MLflow run of the experiment `imgrec-<what>`.

    Raises:
        TooManyFailuresError: after all is done and logged.
    """
    report = RunReport(
        library=str(run.library.root),
        roots=run.library.roots,
        modalities=run.library.modalities,
        scan=scanned,
        embedded=embedded,
        indexes=built or {},
        images=run.registry.count_images(),
        failures=run.registry.count_failures(spec.fingerprint for spec in run.specs.values()),
        bytes_on_disk=_bytes_on_disk(run, built or {}),
        seconds=run.stages.seconds,
        retried=retried,
        choice=describe_choice(run.library, run.chosen) if run.created else "",
    )
    report = replace(report, tracked=_track(run, what, report))
    run.calls.show_outcome(outcome_name(report), outcome_tables(report))
    if report.failed_share > run.chosen.max_failed_share:
        listing = f"imgrec failures --library {shlex.quote(report.library)}"
        raise TooManyFailuresError(
            f"{report.images['failed']:,} images failed, a share of {report.failed_share:.3f}, more than "
            f"max_failed_share = {run.chosen.max_failed_share:g}: `{listing}` lists them"
        )
    return report


def _track(run: Run, what: str, report: RunReport) -> TrackedRun | None:
    parameters: dict[str, object] = {
        "images_root": str(report.roots),
        "modalities": ",".join(run.specs),
        "chunk_size": run.chosen.chunk_size,
        **{f"{name}.fingerprint": spec.fingerprint for name, spec in run.specs.items()},
        **{f"{name}.dim": spec.dim for name, spec in run.specs.items()},
        **run.library.vector_settings,
    }
    for name, built in report.indexes.items():
        parameters |= {f"{name}.{key}": value for key, value in built.manifest.parameters.items()}
        parameters |= {f"{name}.version": built.manifest.version, f"{name}.kind": built.manifest.kind}
        parameters |= {f"{name}.ef_search": built.manifest.ef_search}
        parameters |= {f"{name}.weight.{member.modality}": member.weight for member in built.manifest.members}
    record = RunRecord(f"imgrec-{what}", run_name(what), run.started_s, parameters, report.metrics())
    if report.did_nothing:
        postpone(run.library, record)
        return None
    return run.calls.call(track, run.library, record)


def _bytes_on_disk(run: Run, built: dict[str, IndexReport]) -> dict[str, int]:
    home = run.library
    return {
        "registry": sum(path.stat().st_size for path in home.root.glob(f"{home.registry_path.name}*")),
        "shards": shard_bytes(run.registry),
        "indexes": sum(report.bytes for report in built.values()),
    }
