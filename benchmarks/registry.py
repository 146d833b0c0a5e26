"""What an ingest asks of the registry, in a made library of 2,000,000 images in 3 modalities (200,000 with --quick).

noop_us_per_row     microseconds an image (`noop_cpu_…`: of CPU) of everything that an ingest with nothing to do
                    asks: of the scan (without the walk itself), of failed, pending and copied images, of shards, of
                    four indexes, of the report.
add_1000_s          seconds of the same where the walk finds 1,000 new photos; with their rows, their vectors in three
                    shards, and a new segment for each index. Not counted: reading, decoding, embedding.

Vectors have 16 dimensions (64 bytes a BLOB), so that the registry fits a small disk; what is asked of old images goes
by SQLite's indexes, which hold no BLOBs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from itertools import chain, islice
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.harness import PARAMETERS, Metric, report, wants_quick
from benchmarks.made_library import (
    AN_HOUR_NS,
    DIM,
    FINGERPRINTS,
    MODALITIES,
    THEN_NS,
    made_files,
    made_library,
    made_members,
)
from imgrec.search.fusion import default_indexes
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.publishing import reserve_indexed_ids
from imgrec.search.indexes.switching import count_waiting
from imgrec.search.indexes.updating import settle_indexes, update_index
from imgrec.storage import scan
from imgrec.storage.library import Library
from imgrec.storage.mirror import are_settled, mirror_shards, wants_merge
from imgrec.storage.photos.probe import Probe
from imgrec.storage.photos.walk import FoundFile
from imgrec.storage.registry.failures import list_retryable
from imgrec.storage.registry.pending import PendingGroup, list_pending, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_bytes
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard

ADDED = 1_000


class Prober(Executor):
    """Says of every path that it is a photo that nobody has seen before, without opening anything."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result([_probe(path) for path in args[0]])
        return future


class Ingest:
    """An ingest of a made library whose walk finds `files`: `seconds` by stage, `cpu_s` of all, without the walk."""

    def __init__(self, library: Library, files: Iterable[FoundFile]) -> None:
        self.library, self.files = library, files
        self.seconds: dict[str, float] = {}
        self.walk_s = self.cpu_s = 0.0

    def run(self) -> None:
        library = self.library
        with self.timed("open"), Registry.open_for_writing(library.registry_path) as registry:
            reserve_indexed_ids(registry, library.indexes_dir)
            for name, fingerprint in FINGERPRINTS.items():
                registry.register_fingerprint(fingerprint, name, DIM, {})
        with Registry.open_for_writing(library.registry_path) as registry:
            with self.timed("failed"):
                list_retryable(registry, {"max_megapixels": 256, "decode_timeout_s": 60})
            with self.timed("scan"), patch.object(scan, "walk_roots", lambda *_: [("", self.walk())]):
                scan.scan_photos(registry, library.roots, Prober(), 0.5, 60)
            self.seconds["scan"] -= self.walk_s
            with self.timed("shards"):
                settled = are_settled(registry, library.shards_dir)
            if not settled:
                raise RuntimeError("a shard changed")
            with self.timed("copies"):
                for name, fingerprint in FINGERPRINTS.items():
                    registry.copy_vectors(name, fingerprint)
            with self.timed("pending"):
                groups = list_pending(registry, FINGERPRINTS)
            self.embed(registry, groups)
            with self.timed("indexes"):
                count_waiting(registry, library, FINGERPRINTS)
                reports = []
                for name in default_indexes(MODALITIES):
                    folder = IndexFolder(library.indexes_dir, name)
                    reports.append(
                        update_index(registry, library.shards_dir, folder, made_members(name), {}, PARAMETERS)
                    )
                settle_indexes(registry, FINGERPRINTS, filter(None, reports))
            with self.timed("report"):
                registry.count_images()
                registry.count_failures(FINGERPRINTS.values())
                shard_bytes(registry)

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    def walk(self) -> Iterator[FoundFile]:
        """Yield the files, and note how long that takes."""
        files = iter(self.files)
        while True:
            started, cpu_started = time.perf_counter(), time.process_time()
            some = list(islice(files, 10_000))
            self.walk_s += time.perf_counter() - started
            self.cpu_s -= time.process_time() - cpu_started
            if not some:
                return
            yield from some

    def embed(self, registry: Registry, groups: Sequence[PendingGroup]) -> None:
        """Mirror a random vector for every pending content."""
        random = np.random.default_rng()
        paths = []
        for group in groups:
            with self.timed("pending"):
                hashes = tuple(entry.content_hash for entry in read_pending(registry, group.start, group.images))
            for name in group.modalities:
                rows = random.standard_normal((len(hashes), DIM), np.float32)
                path = shard_path(
                    self.library.shards_dir, name, FINGERPRINTS[name], digest_of(FINGERPRINTS[name], hashes)
                )
                write_shard(path, Shard(name, FINGERPRINTS[name], hashes, rows))
                paths.append(path)
        with self.timed("mirror"):
            mirror_shards(registry, self.library.shards_dir, paths)
            for fingerprint in FINGERPRINTS.values():
                wants_merge(registry, fingerprint)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started, cpu_started = time.perf_counter(), time.process_time()
        yield
        self.cpu_s += time.process_time() - cpu_started
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started


def _probe(path: str) -> Probe:
    file = FoundFile(path, 1_000, THEN_NS, THEN_NS)
    return Probe(file, THEN_NS + AN_HOUR_NS, np.random.bytes(32), 4_000, 3_000, "JPEG", "ok", None)


def _describe(ingests: Sequence[Ingest]) -> str:
    return ", ".join(f"{stage} {median(each.seconds[stage] for each in ingests):.3f}" for stage in ingests[0].seconds)


def main() -> None:
    quick = wants_quick(__doc__)
    count, rounds = (200_000, 3) if quick else (2_000_000, 3)
    library = made_library(count)
    with Registry.open_for_reading(library.registry_path) as registry:
        earlier = sum(registry.count_images().values()) - count
    old = [FoundFile(f"new/{number:08d}.jpg", 1_000, THEN_NS, THEN_NS) for number in range(earlier)]
    Ingest(library, chain(made_files(count), old)).run()  # the first one after an upgrade looks at everything
    idle = [Ingest(library, chain(made_files(count), old)) for _ in range(rounds)]
    for ingest in idle:
        ingest.run()
    busy = []
    for _ in range(rounds):
        old += [FoundFile(f"new/{len(old) + n:08d}.jpg", 1_000, THEN_NS, THEN_NS) for n in range(ADDED)]
        busy.append(Ingest(library, chain(made_files(count), old)))
        busy[-1].run()
    report(
        "registry",
        {
            "noop_us_per_row": Metric(median(ingest.total_s for ingest in idle) / count * 1e6, 2),
            "noop_cpu_us_per_row": Metric(median(ingest.cpu_s for ingest in idle) / count * 1e6),
            "add_1000_s": Metric(median(ingest.total_s for ingest in busy), 5),
            "add_1000_cpu_s": Metric(median(ingest.cpu_s for ingest in busy)),
        },
        {
            "images": f"{count:,}",
            "nothing to do, seconds": _describe(idle),
            "1,000 new photos, seconds": _describe(busy),
        },
    )


if __name__ == "__main__":
    main()
