"""What an ingest would do, how long it would take, and what disk it would need. Changes nothing."""

import random
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from imgrec.conf.settings import Settings
from imgrec.embedders.base import Embedder, LearnedEmbedder
from imgrec.embedders.catalogue import check_stored_models, create_embedders
from imgrec.embedders.machine import Machine
from imgrec.flows.pipeline.libraries import check_device, preview_library
from imgrec.search.fusion import index_modalities, indexes_in_step
from imgrec.search.indexes.layout import list_indexes
from imgrec.storage.errors import ImageError
from imgrec.storage.library import Library, is_library, open_library
from imgrec.storage.machine.pool import WorkerPool, available_cpus, map_batches, time_limit
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.probe import read_regular
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.photos.roots import Roots
from imgrec.storage.registry.failures import list_failed, list_retryable
from imgrec.storage.registry.migrations import is_up_to_date, migrate
from imgrec.storage.registry.probes import sample_to_read
from imgrec.storage.registry.registry import Registry
from imgrec.storage.renaming import preview_names
from imgrec.storage.scan import foresee_refusal, preview_scan
from imgrec.storage.space import IMAGE_ROW_BYTES, blob_bytes_of, index_bytes_of, shard_bytes_of
from imgrec.tasks.executors.choosing import HERE, check_executor, cluster_of

SAMPLE = 24
FORWARD_SAMPLE = 8


@dataclass(frozen=True)
class Estimate:
    """Counts are of files before any is read: moved ones still look new and gone. `retried` are failed contents.

    `excluded` are photos of the library that would leave it, `left_out` counts files and folders by the rule that does,
    `left_alone` says why roots would be.
    `refused` says whether, and why, the ingest would stop for the photos that are gone. `disk` says what each copy of
    the vectors takes of `disk_bytes`; `jobs` are the batch scripts that a cluster would be given.
    """

    found: int
    unchanged: int
    to_read: int
    gone: int
    refused: str | None
    retried: int
    other_files: dict[str, int]
    left_out: dict[str, int]
    excluded: int
    roots: Roots
    left_alone: dict[str, str]
    seconds: float
    disk: Mapping[str, int]
    jobs: Sequence[str] = ()

    @property
    def disk_bytes(self) -> int:
        return sum(self.disk.values())


def estimate_ingest(
    settings: Settings, retry_failed: bool = False, photos_moved: bool = False, accept_missing: bool = False
) -> Estimate:
    """Walk the photos, compare them with the registry, and time a sample of those that would be read."""
    library = preview_library(settings, photos_moved)
    for name in settings.indexes or ():
        index_modalities(name, library.modalities)
    check_executor(settings.executor)
    if settings.executor in HERE:
        check_device(library, settings.device)
    check_stored_models(library.modalities, library.vector_settings, settings.models_root)
    share = 1.0 if accept_missing else settings.max_missing_share
    with _registry(library) as registry:
        before = open_library(library.root).roots if is_library(library.root) else library.roots
        preview_names(library, registry)
        moved = library.roots.moved_since(before)
        comparison, walked = preview_scan(registry, library.roots, library.walking, accept_missing, moved)
        retried = _to_retry(registry, settings, retry_failed)
        sample = sample_to_read(registry.connection, SAMPLE)
        sample += registry.paths_of(random.sample(sorted(retried), min(SAMPLE - len(sample), len(retried))))
    work = partial(_time_pictures, library, settings.max_megapixels, settings.decode_timeout_s)
    with WorkerPool(1, preload=["imgrec.embedders.work.worker"]) as pool:
        seconds = sum(map_batches(pool, work, [[path] for path in sample], 1, lambda path, death: 0.0))
    a_picture = seconds / max(len(sample), 1) / (settings.workers or available_cpus())
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    if sample:
        a_picture += _time_models(embedders.values(), Machine(settings.models_root, settings.device))
    dims = {name: embedder.spec.dim for name, embedder in embedders.items()}
    indexes = indexes_in_step(library.modalities, list_indexes(library.indexes_dir), settings.indexes or ())
    to_embed = comparison.to_read + len(retried)
    return Estimate(
        found=comparison.found,
        unchanged=comparison.unchanged,
        to_read=comparison.to_read,
        gone=comparison.gone,
        refused=foresee_refusal(library.roots, comparison, share, moved),
        retried=len(retried),
        other_files=dict(walked.other_files),
        left_out=dict(walked.left_out),
        excluded=comparison.excluded,
        roots=library.roots,
        left_alone=walked.left_alone,
        seconds=to_embed * a_picture,
        disk=estimate_disk(to_embed, dims, indexes, settings.hnsw_m),
        jobs=_preview_jobs(settings, library, embedders, -(-to_embed // settings.chunk_size)),
    )


def _preview_jobs(settings: Settings, library: Library, embedders: Mapping[str, Embedder], chunks: int) -> list[str]:
    if settings.executor != "slurm" or not chunks:
        return []
    cluster = cluster_of(settings, embedders)
    from imgrec.tasks.executors.slurm import preview

    return preview(cluster, library.submissions_dir, chunks, list(embedders))


def estimate_disk(images: int, dims: Mapping[str, int], indexes: Sequence[str], hnsw_m: int) -> dict[str, int]:
    """Bytes that new images take, by what holds them; `dims` of vectors by modality."""
    disk = {
        "registry.sqlite, images": images * IMAGE_ROW_BYTES,
        "registry.sqlite, vectors": images * sum(blob_bytes_of(dim) for dim in dims.values()),
        "shards": images * sum(shard_bytes_of(dim) for dim in dims.values()),
    }
    for name in indexes:
        members = [dims[modality] for modality in index_modalities(name, list(dims))]
        disk[f"index {name}"] = index_bytes_of(images, sum(members), hnsw_m, has_rows=len(members) == 1)
    return disk


def _to_retry(registry: Registry, settings: Settings, retry_failed: bool) -> set[bytes]:
    if retry_failed:
        return list_failed(registry)
    return list_retryable(registry, settings.limits()) if is_up_to_date(registry.connection) else set()


def _time_pictures(library: Library, max_megapixels: float, decode_timeout_s: float, paths: Sequence[str]) -> float:
    """Do with some photos what workers do; return the seconds that took. Runs in one, since it may be its end."""
    settings = library.vector_settings
    embedders = create_embedders(library.modalities, settings, library.models_dir)
    started = time.perf_counter()
    for path in paths:
        try:
            data, _ = read_regular(library.roots.locate(path), library.follow_links)
            with time_limit(decode_timeout_s):
                side, profiles = settings["decode_min_side"], profiles_of(settings)
                pixels = decode(data, side, max_megapixels, profiles)
        except (OSError, ImageError):
            continue
        for embedder in embedders.values():
            embedder.prepare(pixels)
    return time.perf_counter() - started


def _time_models(embedders: Iterable[Embedder], machine: Machine) -> float:
    """Seconds a picture of all forward passes, which have all cores for themselves and cost the same for any."""
    seconds = 0.0
    for embedder in embedders:
        if isinstance(embedder, LearnedEmbedder):
            batch = np.stack([embedder.prepare(np.zeros((8, 8, 3), np.uint8))] * FORWARD_SAMPLE)
            embedder.load(machine)
            embedder.forward(embedder.send(batch[:1]))  # the first one starts threads
            started = time.perf_counter()
            embedder.forward(embedder.send(batch))
            seconds += (time.perf_counter() - started) / FORWARD_SAMPLE
    return seconds


@contextmanager
def _registry(library: Library) -> Iterator[Registry]:
    """The library's registry, or an empty one in memory where there is none yet."""
    if library.registry_path.is_file():
        with Registry.open_for_reading(library.registry_path) as registry:
            yield registry
        return
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        migrate(connection, library.registry_path)
        yield Registry(connection)
    finally:
        connection.close()
