"""What adding to an index costs: `python -m benchmarks.incremental [--quick]`.

One index, efficientnet's, of 50,000 photos (10,000 with --quick; benchmarks.real_library), in process; adds of 1 %.

add_1pct_s          seconds of an add, from the call to the published version, median of the first eight
add_1pct_vs_build   the same in those of the build
add_100th           the 100th add against the first: medians of the five around each, so that no merge decides alone
worst_add_s         the slowest of all, which merged segments
qps_after_8         queries a second (a batch of 1,000, one thread) after eight adds, against a build of the same photos
recall_after_100    recall@10 after a hundred adds, of unseen queries, against exact search
"""

import time
from collections.abc import Callable
from statistics import median

import faiss
import numpy as np

from benchmarks.harness import Metric, report, scratch, wants_quick
from benchmarks.real_library import copy_of, grow, real_library, update, vectors_of
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.rescoring import SPARE, ExactScores, rescore
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

MODALITY = "efficientnet"
ADDS = 100
K = 10
ROUNDS = 7


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def qps(readers: list[IndexReader], queries: np.ndarray) -> list[float]:
    """Queries a second of several readers, in turns, medians."""
    faiss.omp_set_num_threads(1)
    times = [[seconds_of(lambda: reader.search(queries, K)) for reader in readers] for _ in range(ROUNDS)]  # noqa: B023 # called at once
    return [len(queries) / median(some) for some in zip(*times, strict=True)]


def recall(library: Library, registry: Registry, queries: np.ndarray, count: int) -> float:
    reader = IndexReader(IndexFolder(library.indexes_dir, MODALITY))
    _, ids = reader.search(queries, K + SPARE)
    scores, _ = rescore(ExactScores(registry, reader.manifest.members), queries, ids, K)
    exact = faiss.IndexFlatIP(queries.shape[1])
    exact.add(vectors_of(MODALITY, range(count)))
    return float((scores >= exact.search(queries, K)[0][:, -1:] - 1e-6).mean())


def main() -> None:
    quick = wants_quick(__doc__)
    count = 10_000 if quick else 50_000
    step, parameters = count // 100, IndexParameters()
    queries = vectors_of(MODALITY, range(900_000, 901_000))
    with scratch("incremental") as folder:
        library = copy_of(real_library(count, (MODALITY,)), folder / "library")
        with Registry.open_for_writing(library.registry_path) as registry:
            build_s = seconds_of(lambda: update(library, registry, MODALITY, parameters))
            adds: list[float] = []
            index = IndexFolder(library.indexes_dir, MODALITY)
            for number in range(ADDS):
                grow(library, registry, count + number * step, count + (number + 1) * step)
                adds.append(seconds_of(lambda: update(library, registry, MODALITY, parameters)))
                if number == 7:
                    after_8 = IndexReader(index)
                    segments_after_8 = [(entry.kind, entry.vectors) for entry in after_8.manifest.segments]
                    fresh_library = copy_of(library, folder / "fresh")
                    with Registry.open_for_writing(fresh_library.registry_path) as fresh_registry:
                        update(fresh_library, fresh_registry, MODALITY, parameters, rebuild=True)
                    fresh = IndexReader(IndexFolder(fresh_library.indexes_dir, MODALITY))
                    after, anew = qps([after_8, fresh], queries)
            segments = [(entry.kind, entry.vectors) for entry in IndexReader(index).manifest.segments]
            found = recall(library, registry, queries, count + ADDS * step)
    metrics = {
        "add_1pct_s": Metric(median(adds[:8]), 0.3),
        "add_1pct_vs_build": Metric(median(adds[:8]) / build_s, 0.03),
        "add_100th": Metric(median(adds[-5:]) / median(adds[:5]), 1.5),
        "worst_add_s": Metric(max(adds)),
        "qps_after_8": Metric(after / anew, 0.7, at_least=True),
        "recall_after_100": Metric(found, 0.99, at_least=True),
    }
    details = {
        "build": f"{build_s:.1f} s, {count:,} vectors",
        "adds": f"{step:,} vectors each; all hundred {sum(adds):.1f} s",
        "segments after 8": str(segments_after_8),
        "segments after 100": str(segments),
        "q/s after 8, built anew": f"{after:,.0f}, {anew:,.0f}",
    }
    report("incremental", metrics, details)


if __name__ == "__main__":
    main()
