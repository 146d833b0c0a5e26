"""What building an index costs, against FAISS itself.

build_vs_faiss  `update_index` from nothing, as far as segments on disk (live ids asked for, shards read and verified,
                graph built, segment written and synced; the recall measurement and the mirror of rows in SQLite that
                follow are in the table only) against IndexHNSWFlat with the same M and efConstruction that is fed from
                memory in one add, and written and synced as well. Same vectors, same number of threads, a fresh process
                each, in turn, medians.
peak_vs_size    peak resident size of the building process beyond 300 MB, against the index's size on disk.

The vectors are colour histograms: mixtures of those of crops of real pictures. 50,000 of them for the time, 200,000 for
the peak; 20,000 for both with --quick, where the peak stays below 300 MB and says nothing.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import faiss
import numpy as np

from benchmarks.harness import (
    PARAMETERS,
    Metric,
    call_fresh,
    members_of,
    peak_bytes,
    report,
    vector_library,
    wants_quick,
)
from imgrec.search.fusion import default_indexes
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.updating import update_index
from imgrec.storage.library import open_library
from imgrec.storage.machine.atomic import atomic_path
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards, read_shard

FREE_BYTES = 300e6


def build_ours(root: str) -> dict[str, float]:
    """Build a library's indexes from nothing; what is measured is its default one, the last."""
    library = open_library(Path(root))
    with Registry.open_for_writing(library.registry_path) as registry:
        for name in default_indexes(library.modalities):
            folder = IndexFolder(library.indexes_dir, name)
            folder.pointer.unlink(missing_ok=True)
            started = time.perf_counter()
            built = update_index(
                registry, library.shards_dir, folder, members_of(library, name), library.vector_settings, PARAMETERS
            )
            seconds = time.perf_counter() - started
    if built is None or built.action != "built" or built.recall is None:
        raise RuntimeError(f"no index was built: {built}")
    return {
        "seconds": built.build_s,
        "whole": seconds,
        "peak": peak_bytes(),
        "bytes": built.bytes,
        "recall": built.recall,
    }


def build_bare(root: str) -> dict[str, float]:
    """Build the same graph with FAISS alone, and write it."""
    shards = [read_shard(path) for path in list_shards(open_library(Path(root)).shards_dir)]
    vectors = np.concatenate([shard.vectors for shard in shards])
    del shards
    started = time.perf_counter()
    index = faiss.IndexHNSWFlat(vectors.shape[1], PARAMETERS.hnsw_m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = PARAMETERS.ef_construction
    index.add(vectors)
    with atomic_path(Path(root) / "bare.faiss") as path:
        faiss.write_index(index, str(path))
    return {"seconds": time.perf_counter() - started}


def main() -> None:
    quick = wants_quick(__doc__)
    timed_count, rounds, peak_count = (20_000, 3, 0) if quick else (50_000, 5, 200_000)
    root = str(vector_library(timed_count).root)
    pairs = [(call_fresh(build_ours, root), call_fresh(build_bare, root)) for _ in range(rounds)]
    ours, bare = (_median_of(facts, "seconds") for facts in zip(*pairs, strict=True))
    details = {
        "vectors": f"{timed_count:,}",
        "update_index, built": f"{ours:.2f} s",
        "update_index, with recall and SQLite rows": f"{_median_of([pair[0] for pair in pairs], 'whole'):.2f} s",
        "FAISS, one add": f"{bare:.2f} s",
        "recall@10": f"{_median_of([pair[0] for pair in pairs], 'recall'):.3f}",
    }
    metrics = {"build_vs_faiss": Metric(ours / bare, 1.15)}
    large = call_fresh(build_ours, str(vector_library(peak_count).root)) if peak_count else pairs[0][0]
    metrics["peak_vs_size"] = Metric(max(0.0, large["peak"] - FREE_BYTES) / large["bytes"], 1.5)
    details[f"{peak_count or timed_count:,} vectors"] = (
        f"{large['seconds']:.1f} s, peak {large['peak'] / 1e6:,.0f} MB, index {large['bytes'] / 1e6:,.0f} MB"
    )
    report("index", metrics, details)


def _median_of(facts: Sequence[dict[str, float]], name: str) -> float:
    return median(fact[name] for fact in facts)


if __name__ == "__main__":
    main()
