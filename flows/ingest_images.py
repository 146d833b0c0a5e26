"""The main flow: photos in, an up-to-date library out."""

import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect import Task, flow
from prefect.futures import PrefectFuture
from prefect.runtime import deployment
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from conf.settings import Settings
from embedders.base import EmbedderSpec
from embedders.catalogue import create_embedders
from embedders.worker import is_embedded
from flows.chunks import write_chunks
from flows.interrupts import stopping_gently
from flows.libraries import check_new_library, library_for
from flows.progress import IngestProgress, ingest_progress
from flows.report import IngestReport, Stages
from search.fusion import default_indexes, index_members, index_modalities
from search.index import IndexParameters, IndexReport, reserve_indexed_ids
from storage.atomic import remove_stale_temporaries
from storage.errors import ImgrecError, LibraryLockedError
from storage.library import Library, open_library
from storage.lock import writer_lock
from storage.mirror import are_settled, wants_merge
from storage.refusals import explaining
from storage.registry import Registry
from tasks.driver import driving
from tasks.embed import embed, merge, mirror
from tasks.index import index
from tasks.scan import adopt, scan
from tasks.tracking import RunRecord, TrackedRun, postpone, track

P = ParamSpec("P")
R = TypeVar("R")

# One chunk computes while the one before writes its shards.
CHUNKS_IN_FLIGHT = 2
# The registry takes up finished shards this many at a time, so that `imgrec status` shows a long ingest growing.
SHARDS_PER_MIRROR = 16


class TooManyFailuresError(ImgrecError):
    """More images failed than `max_failed_share` allows; the library is complete all the same."""


def _run_name() -> str:
    return f"ingest {datetime.now():%Y-%m-%d %H:%M:%S}"


@flow(
    name="ingest-images",
    flow_run_name=_run_name,
    task_runner=ThreadPoolTaskRunner(max_workers=CHUNKS_IN_FLIGHT),  # type: ignore[arg-type] # invariant in its future
)
def ingest_images(
    images_root: Path | None = None,
    library: Path | None = None,
    modalities: list[str] | None = None,
    indexes: list[str] | None = None,
    photos_moved: bool = False,
    accept_missing: bool = False,
    reembed: bool = False,
    settings: dict[str, Any] | None = None,
) -> IngestReport:
    """Bring a library up to date with its folder of photos: scan, embed, mirror, index.

    Args:
        images_root: folder of photos; a library remembers its own.
        library: folder of the library; it is made if it is not there.
        modalities: modalities to compute beside those the library has.
        indexes: indexes to build; default: one per modality, and their combination.
        photos_moved: the photos of this library are in `images_root` now.
        accept_missing: mark photos missing however many there are.
        reembed: give all images new vectors where a setting that changes vectors differs.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(
        images_root=images_root, library=library, modalities=modalities, indexes=indexes, **(settings or {})
    )
    check_new_library(chosen)
    started_s = time.time()
    try:
        with explaining(chosen.library):
            report, specs = _ingest(chosen, photos_moved, accept_missing, reembed)
            report = replace(report, tracked=_track(report, specs, chosen, started_s))
    except LibraryLockedError as error:
        if deployment.id is None:
            raise
        return Completed(name="Skipped", message=str(error))  # type: ignore[return-value] # Prefect takes it as the run's
    if report.failed_share > chosen.max_failed_share:
        raise TooManyFailuresError(
            f"{report.images['failed']:,} images failed, a share of {report.failed_share:.3f}, more than "
            f"max_failed_share = {chosen.max_failed_share:g}: `imgrec failures --library {chosen.library}` lists them"
        )
    return report


def _ingest(
    chosen: Settings, photos_moved: bool, accept_missing: bool, reembed: bool
) -> tuple[IngestReport, Mapping[str, EmbedderSpec]]:
    stages = Stages()
    with (
        writer_lock(chosen.library),
        stopping_gently() as stop_if_asked,
        ingest_progress() as progress,
        driving(chosen.workers, _both(progress.on_read, stop_if_asked), progress.on_images),
    ):
        home = library_for(chosen, photos_moved, reembed)
        for name in chosen.indexes or ():
            index_modalities(name, home.modalities)  # a wrong name is told before the work, not after
        remove_stale_temporaries(home.root)
        embedders = create_embedders(home.modalities, home.vector_settings, home.models_dir)
        specs = {name: embedder.spec for name, embedder in embedders.items()}
        with Registry.open_for_writing(home.registry_path) as registry:
            reserve_indexed_ids(registry, home.indexes_dir)
            for spec in specs.values():
                registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
            with stages.timed("scan"):
                share = 1.0 if accept_missing else chosen.max_missing_share
                scanned = _with_retries(scan, chosen)(home.registry_path, Path(home.images_root), share)
            with stages.timed("embed"):
                if not are_settled(registry, home.shards_dir):
                    _with_retries(adopt, chosen)(home)
                embedded, bytes_read = _embed_pending(home, registry, specs, chosen, progress, stop_if_asked)
            with stages.timed("index"):
                built = _build_indexes(home, specs, chosen, stop_if_asked)
            report = IngestReport(
                library=str(home.root),
                images_root=home.images_root,
                scan=scanned,
                embedded=embedded,
                bytes_read=bytes_read,
                images=registry.count_images(),
                failures=registry.count_failures(),
                bytes_on_disk=_bytes_on_disk(home, registry, built),
                indexes=built,
                seconds=stages.seconds,
            )
    return report, specs


def _embed_pending(
    home: Library,
    registry: Registry,
    specs: Mapping[str, EmbedderSpec],
    chosen: Settings,
    progress: IngestProgress,
    stop_if_asked: Callable[[], None],
) -> tuple[int, int]:
    """Embed what waits for vectors, a task run a chunk; return how many images, and their bytes on disk."""
    fingerprints = {modality: spec.fingerprint for modality, spec in specs.items()}
    for modality, fingerprint in fingerprints.items():
        registry.copy_vectors(modality, fingerprint)
    groups = registry.list_pending(fingerprints)
    progress.expect(sum(group.images for group in groups))
    running: deque[PrefectFuture[list[str]]] = deque()
    finished: list[str] = []
    images = bytes_read = 0
    try:
        for chunk in write_chunks(home, registry, groups, fingerprints, chosen.batch_size, chosen.max_megapixels):
            # A cached result counts only while the shards that it names verify.
            task = _with_retries(embed, chosen, refresh_cache=not is_embedded(chunk.path))
            running.append(task.submit(home.uuid, chunk.path, chunk.images))
            images, bytes_read = images + chunk.images, bytes_read + chunk.bytes
            if len(running) >= CHUNKS_IN_FLIGHT:
                finished += running.popleft().result()
            if len(finished) >= SHARDS_PER_MIRROR:
                _with_retries(mirror, chosen)(home, finished)
                finished = []
            progress.publish()
            stop_if_asked()
    finally:  # also what is in flight when it is to stop
        finished += [path for future in running for path in future.result()]
        if finished:
            _with_retries(mirror, chosen)(home, finished)
        shutil.rmtree(home.chunks_dir, ignore_errors=True)
    progress.publish(final=True)
    for modality, fingerprint in fingerprints.items():
        if wants_merge(registry, fingerprint):
            _with_retries(merge, chosen)(home, modality, fingerprint)
    return images, bytes_read


def _build_indexes(
    home: Library, specs: Mapping[str, EmbedderSpec], chosen: Settings, stop_if_asked: Callable[[], None]
) -> dict[str, IndexReport]:
    parameters = IndexParameters(
        hnsw_m=chosen.hnsw_m,
        ef_construction=chosen.ef_construction,
        ef_search=chosen.ef_search,
        index_batch_size=chosen.index_batch_size,
        recall_sample=chosen.recall_sample,
    )
    reports = {}
    for name in chosen.indexes or default_indexes(home.modalities):
        stop_if_asked()
        report = _with_retries(index, chosen)(home, name, index_members(name, specs), parameters)
        if report is not None:
            reports[name] = report
    stop_if_asked()
    return reports


def _track(
    report: IngestReport, specs: Mapping[str, EmbedderSpec], chosen: Settings, started_s: float
) -> TrackedRun | None:
    home = open_library(chosen.library)
    parameters: dict[str, object] = {
        "images_root": report.images_root,
        "modalities": ",".join(specs),
        "batch_size": chosen.batch_size,
        **{f"{name}.fingerprint": spec.fingerprint for name, spec in specs.items()},
        **{f"{name}.dim": spec.dim for name, spec in specs.items()},
        **home.vector_settings,
    }
    for name, built in report.indexes.items():
        parameters |= {f"{name}.{key}": value for key, value in built.manifest.parameters.items()}
        parameters |= {f"{name}.version": built.manifest.version}
        parameters |= {f"{name}.weight.{member.modality}": member.weight for member in built.manifest.members}
    record = RunRecord("imgrec-ingest", _run_name(), started_s, parameters, report.metrics())
    if report.did_nothing:
        postpone(home, record)
        return None
    return track(home, record)


def _bytes_on_disk(home: Library, registry: Registry, built: Mapping[str, IndexReport]) -> dict[str, int]:
    return {
        "registry": sum(path.stat().st_size for path in home.root.glob(f"{home.registry_path.name}*")),
        "shards": registry.shard_bytes(),
        "indexes": sum(report.bytes for report in built.values()),
    }


def _both(on_read: Callable[[int, int], None], stop_if_asked: Callable[[], None]) -> Callable[[int, int], None]:
    def both(done: int, total: int) -> None:
        on_read(done, total)
        stop_if_asked()

    return both


def _with_retries(task: Task[P, R], chosen: Settings, **options: Any) -> Task[P, R]:
    return task.with_options(retries=chosen.retries, **options)
