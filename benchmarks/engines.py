"""Our index kinds against other engines on real vectors: `python -m benchmarks.engines [--quick]`.

The engines are in the extra [bench].

Vectors: efficientnet's of real pictures and crops of them (benchmarks.real_vectors), distinct rows, 1,000 of them left
out as queries that no engine has seen. One thread, one batched call of all queries, every engine in one process and in
turn; each with every number of candidates of a ladder, and q/s interpolated at recall@10 = 0.99. A hit is right when
its exact score reaches that of the tenth true neighbour. Our time includes everything from query to hits: reducing the
query, the graph, ranking by rows of bytes; for color and sift ranking by exact scores too. Medians of several rounds.

qps_vs_hnswlib, qps_vs_usearch    queries a second at recall@10 = 0.99 against the best of theirs (hnswlib M 32 and
                                  efConstruction 100, M 24 and 200; usearch bf16 M 32, 100)
qps_vs_symphonyqg                 against rabitqlib's static graph, where it is installed
build_vs_hnswlib, build_vs_usearch  seconds of building at those points; ours from vectors to synced files
pss_vs_float_hnsw                 peak proportional set size of a process after 10,000 queries, without the
                                  interpreter's own, against FAISS's HNSW of float vectors; mapped pages count
recall_color, recall_sift, recall_combo  what `auto` reaches of the vectors of each, measured with the unseen queries
color_qps_vs_hnswlib, …           its q/s against hnswlib's at the same recall
cold_first_ms                     the first query of a process after the file cache was dropped (root only)
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.harness import PARAMETERS, Metric, call_fresh, report, scratch, wants_quick
from benchmarks.real_vectors import real_vectors
from imgrec.search.indexes.kinds.catalogue import kind_of
from imgrec.search.indexes.kinds.kind import Training
from imgrec.search.indexes.segment import build_segment, open_segment
from imgrec.search.indexes.vectors import Ids, Vectors

QUERIES = 1_000
K = 10
SPARE = 6
GOAL = 0.99
LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
TOLERANCE = 1e-6

Search = Callable[[Vectors, int], Ids]


@dataclass(frozen=True)
class Engine:
    """An engine that is built: `search(queries, ef)` returns the ten nearest rows of each query."""

    name: str
    build_s: float
    search: Search


def load(modality: str, quick: bool) -> tuple[Vectors, Vectors]:
    """Distinct rows, and queries that are none of them."""
    rows = np.array(real_vectors(modality, quick))
    rows = rows[np.linalg.norm(rows, axis=1) > 0.5]
    rows = np.unique(rows, axis=0)
    rows = np.ascontiguousarray(rows[np.random.default_rng(0).permutation(len(rows))])
    return rows[QUERIES:], rows[:QUERIES]


def in_batches(rows: Vectors, size: int = 16_384) -> Iterator[tuple[Ids, Vectors]]:
    for start in range(0, len(rows), size):
        yield np.arange(start, min(start + size, len(rows))), rows[start : start + size]


def ours(kind: str, rows: Vectors, folder: Path, exact: bool) -> Engine:
    """A segment of one of our kinds; `exact`: hits are ranked by exact scores in the end, as a Searcher ranks them."""
    shutil.rmtree(folder, ignore_errors=True)
    started = time.perf_counter()
    sample = rows[:: max(1, len(rows) // 16_384)]
    build_segment(
        folder,
        kind_of(kind),
        in_batches(rows),
        Training(sample, len(rows), PARAMETERS.hnsw_m, PARAMETERS.ef_construction),
    )
    build_s = time.perf_counter() - started
    segment = open_segment(folder, kind, len(rows))

    def search(queries: Vectors, ef: int) -> Ids:
        wanted = K + SPARE if exact else K
        _, offsets = segment.opened.search(queries, wanted, segment.opened.parameters(wanted, ef))
        found = segment.ids[offsets]
        if not exact:
            return found
        scores = np.einsum("qd,qkd->qk", queries, rows[found])
        return np.take_along_axis(found, np.argsort(-scores, axis=1)[:, :K], axis=1)

    return Engine(f"ours, {kind}", build_s, search)


def float_hnsw(rows: Vectors) -> Engine:
    started = time.perf_counter()
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(rows)
    build_s = time.perf_counter() - started

    def search(queries: Vectors, ef: int) -> Ids:
        return np.asarray(index.search(queries, K, params=faiss.SearchParametersHNSW(efSearch=ef))[1])

    return Engine("FAISS HNSW32,Flat", build_s, search)


def hnswlib(rows: Vectors, hnsw_m: int, ef_construction: int) -> Engine:
    engine = import_module("hnswlib")

    started = time.perf_counter()
    index = engine.Index("ip", rows.shape[1])
    index.init_index(len(rows), ef_construction=ef_construction, M=hnsw_m)
    index.set_num_threads(1)
    index.add_items(rows, num_threads=1)
    build_s = time.perf_counter() - started

    def search(queries: Vectors, ef: int) -> Ids:
        index.set_ef(ef)
        return np.asarray(index.knn_query(queries, K, num_threads=1)[0], np.int64)

    return Engine(f"hnswlib M{hnsw_m} efc{ef_construction}", build_s, search)


def usearch(rows: Vectors) -> Engine:
    engine = import_module("usearch.index")

    started = time.perf_counter()
    index = engine.Index(ndim=rows.shape[1], metric="ip", dtype="bf16", connectivity=32, expansion_add=100)
    index.add(np.arange(len(rows)), rows, threads=1)
    build_s = time.perf_counter() - started

    def search(queries: Vectors, ef: int) -> Ids:
        index.expansion_search = ef
        return np.asarray(index.search(queries, K, threads=1).keys).astype(np.int64)

    return Engine("usearch bf16 M32", build_s, search)


def symphonyqg(rows: Vectors) -> Engine:
    engine = import_module("rabitqlib")

    started = time.perf_counter()
    index = engine.SymqgIndex(rows.shape[1], 32, "l2", 8)
    index.build(rows, 100, num_threads=1)
    build_s = time.perf_counter() - started

    def search(queries: Vectors, ef: int) -> Ids:
        return np.asarray(index.search_batch(queries, K, max(ef, K), num_threads=1)[0]).astype(np.int64)

    return Engine("SymphonyQG", build_s, search)


class Judge:
    """Knows the true neighbours of the queries."""

    def __init__(self, rows: Vectors, queries: Vectors) -> None:
        self.rows, self.queries = rows, queries
        exact = faiss.IndexFlatIP(rows.shape[1])
        exact.add(rows)
        self.least = exact.search(queries, K)[0][:, -1:]

    def recall(self, found: Ids) -> float:
        scores = np.einsum("qd,qkd->qk", self.queries, self.rows[found])
        return float((scores >= self.least - TOLERANCE).mean())

    def at_goal(self, engine: Engine, rounds: int, goal: float = GOAL) -> "AtGoal":
        """The two numbers of candidates between which an engine reaches the goal, timed in turns."""
        recalls = []
        for ef in LADDER:
            recalls.append(self.recall(engine.search(self.queries, ef)))
            if recalls[-1] >= goal:
                break
        last = len(recalls) - 1
        pair = [place for place in (last - 1, last) if place >= 0]
        return AtGoal(engine, [LADDER[place] for place in pair], [recalls[place] for place in pair], goal)


@dataclass
class AtGoal:
    engine: Engine
    efs: list[int]
    recalls: list[float]
    goal: float

    @property
    def is_reached(self) -> bool:
        return self.recalls[-1] >= self.goal

    def time(self, queries: Vectors) -> float:
        """Seconds of all queries at the goal: between the two, by the logarithm of what is missed."""
        seconds = []
        for ef in self.efs:
            started = time.perf_counter()
            self.engine.search(queries, ef)
            seconds.append(time.perf_counter() - started)
        if not self.is_reached or len(seconds) == 1 or self.recalls[0] >= self.goal:
            return seconds[-1]
        low, high, goal = (np.log(1 - min(recall, 1 - 1e-5)) for recall in (*self.recalls, self.goal))
        return float(np.interp(-goal, [-low, -high], seconds))


def compare(judge: Judge, engines: list[Engine], rounds: int, goal: float = GOAL) -> dict[str, tuple[float, AtGoal]]:
    """Queries a second of each engine at the goal, all in turn in every round; those that never reach it have 0."""
    found = {engine.name: judge.at_goal(engine, rounds, goal) for engine in engines}
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, at in found.items():
            times[name].append(at.time(judge.queries))
    return {
        name: (len(judge.queries) / median(times[name]) if at.is_reached else 0.0, at) for name, at in found.items()
    }


def pss_of(kind: str, folder: str, quick: bool) -> dict[str, float]:
    """Peak proportional set size of this process after 10,000 queries of an index, less what it had before."""
    faiss.omp_set_num_threads(1)
    queries = np.array(real_vectors("efficientnet", quick)[:QUERIES])
    before = _pss()
    if kind == "float":
        index = faiss.read_index(str(Path(folder) / "float.faiss"), faiss.IO_FLAG_MMAP_IFC)
        search: Callable[[Vectors], Any] = lambda some: index.search(some, K)  # noqa: E731 # two ways to search
    else:
        segment = open_segment(Path(folder) / kind, kind, len(np.load(Path(folder) / kind / "ids.npy")))
        parameters = segment.opened.parameters(K + SPARE, 48)
        search = lambda some: segment.opened.search(some, K + SPARE, parameters)  # noqa: E731
    peak = before
    for _ in range(10_000 // QUERIES):
        for start in range(0, QUERIES, 100):
            search(queries[start : start + 100])
        peak = max(peak, _pss())
    return {"pss": peak - before}


def _pss() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("Pss:"))) * 1024


def cold_first_ms(folder: Path, kind: str, rows: int, query: Vectors) -> float | None:
    """Drop the file cache, open, search once."""
    with suppress(OSError):
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3")
        started = time.perf_counter()
        segment = open_segment(folder, kind, rows)
        segment.opened.search(query, K, segment.opened.parameters(K, 48))
        return (time.perf_counter() - started) * 1e3
    return None


def main() -> None:
    quick = wants_quick(__doc__)
    rounds = 3 if quick else 7
    faiss.omp_set_num_threads(1)
    metrics: dict[str, Metric] = {}
    details: dict[str, str] = {}
    with scratch("engines") as folder:
        rows, queries = load("efficientnet", quick)
        judge = Judge(rows, queries)
        graph = ours("graph", rows, folder / "graph", exact=False)
        others = [hnswlib(rows, 32, 100), usearch(rows), float_hnsw(rows)]
        others += [] if quick else [hnswlib(rows, 24, 200)]
        with suppress(ImportError):
            others.append(symphonyqg(rows))
        found = compare(judge, [graph, *others], rounds)
        for name, (qps, at) in found.items():
            reached = f"{qps:,.0f} q/s" if at.is_reached else "never"
            details[f"{name}: build, at recall {GOAL}"] = (
                f"{at.engine.build_s:.1f} s, {reached} (ef {at.efs[-1]}: {at.recalls[-1]:.4f})"
            )
        best = max((name for name in found if name.startswith("hnswlib")), key=lambda name: found[name][0])
        qps = found[graph.name][0]
        metrics["qps_vs_hnswlib"] = Metric(qps / found[best][0], 2.8, at_least=True)
        metrics["qps_vs_usearch"] = Metric(qps / max(found["usearch bf16 M32"][0], 1e-9), 3, at_least=True)
        if "SymphonyQG" in found:
            metrics["qps_vs_symphonyqg"] = Metric(qps / found["SymphonyQG"][0], 0.65, at_least=True)
        metrics["build_vs_hnswlib"] = Metric(graph.build_s / found[best][1].engine.build_s, 0.4)
        metrics["build_vs_usearch"] = Metric(graph.build_s / found["usearch bf16 M32"][1].engine.build_s, 0.6)
        index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 100
        index.add(rows)
        faiss.write_index(index, str(folder / "float.faiss"))
        del index
        sizes = {kind: call_fresh(pss_of, kind, str(folder), quick)["pss"] for kind in ("graph", "float")}
        metrics["pss_vs_float_hnsw"] = Metric(sizes["graph"] / sizes["float"], 0.4)
        details["peak Pss, ours and float"] = " and ".join(f"{size / 1e6:,.0f} MB" for size in sizes.values())
        if (cold := cold_first_ms(folder / "graph", "graph", len(rows), queries[:1])) is not None:
            metrics["cold_first_ms"] = Metric(cold)
        for modality in ("color", "sift"):
            rows, queries = load(modality, quick)
            judge = Judge(rows, queries)
            engines = [ours("inverted", rows, folder / modality, exact=True), hnswlib(rows, 32, 100)]
            (mine, at), (theirs, other) = compare(judge, engines, rounds).values()
            metrics[f"recall_{modality}"] = Metric(at.recalls[-1], GOAL, at_least=True)
            details[f"{modality}: ours, hnswlib at recall {GOAL}"] = (
                f"{mine:,.0f} q/s (ef {at.efs[-1]}, built in {at.engine.build_s:.1f} s), {theirs:,.0f} q/s (at best "
                f"{other.recalls[-1]:.3f}, built in {other.engine.build_s:.1f} s)"
            )
    report("engines", metrics, details)


if __name__ == "__main__":
    main()
