"""What graphs lose and cost: recall against exact search, milliseconds a query, queries a second."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from imgrec.search.evaluation.engine import StoredVectors, Subject, place_in
from imgrec.search.evaluation.exact import ROUNDING, Excluded, Nearest, fuse, score_blocks
from imgrec.search.evaluation.sampling import draw
from imgrec.search.indexes.rescoring import SPARE
from imgrec.search.indexes.vectors import Ids, Mask, Vectors
from imgrec.storage.machine.pool import available_cpus

# What a graph could be searched with instead, for the curve of recall against latency.
SWEEP = (16, 32, 64, 128, 256, 512)
# One after the other, and for how long a throughput is measured, at least.
SINGLE_QUERIES, SWEEP_QUERIES, THROUGHPUT_S = 500, 100, 0.5
_QUERIES_PER_LOOKUP = 64


@dataclass(frozen=True)
class Speed:
    """Milliseconds a query, asked one at a time, and queries a second in one call of all."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    queries_per_s: float


@dataclass(frozen=True)
class SweepPoint:
    """Recall and the median latency at another efSearch."""

    ef_search: int
    recall: float
    p50_ms: float


@dataclass(frozen=True)
class SearchQuality:
    """How an index is searched. `behind` counts photos that it should answer with and lacks, or has and should not."""

    index: str
    version: str
    photos: int
    behind: int
    queries: int
    k: int
    ef_search: int
    recall: float
    one_thread: Speed
    all_threads: Speed
    sweep: tuple[SweepPoint, ...]


@dataclass(frozen=True)
class _Asked:
    """One index and the sampled photos that have a vector in it: their ids, rows, and true k-th best scores."""

    subject: Subject
    universe: Ids
    chosen: Mask
    ids: Ids
    rows: Vectors
    floor: Vectors
    k: int


def measure_searching(
    stored: StoredVectors,
    subjects: Sequence[Subject],
    sample: int,
    k: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SearchQuality]:
    """Ask each index for photos like those of a sample, drawn from all that the indexes have, and time it.

    A photo is no answer to itself. A hit is right when its exact score reaches that of the true k-th neighbour, so
    equal photos may come in any order. Exact search takes one pass over the stored vectors for all indexes.
    """
    universes = [stored.live_ids(list(subject.weights)) for subject in subjects]
    everything = np.unique(np.concatenate(universes))
    queries = draw(everything, sample, seed)
    vectors = stored.of(queries)
    exact = [Nearest(len(queries), k) for _ in subjects]
    itself = Excluded(np.arange(len(queries)), queries)
    for ids, cosines in score_blocks(stored, everything, vectors, on_progress):
        for subject, universe, nearest in zip(subjects, universes, exact, strict=True):
            scores = fuse(cosines, subject.weights)
            scores[:, ~place_in(ids, universe)[1]] = -np.inf
            itself.apply(ids, scores)
            nearest.add(ids, scores)
    measured = []
    for subject, universe, nearest in zip(subjects, universes, exact, strict=True):
        chosen = place_in(queries, universe)[1]
        possible = min(k, len(universe) - 1)
        rows = subject.query_rows({name: found[chosen] for name, found in vectors.items()})
        floor = nearest.best()[0][chosen, possible - 1] if possible else np.empty(0, np.float32)
        asked = _Asked(subject, universe, chosen, queries[chosen], rows, floor, possible)
        measured.append(_measure(stored, asked, {name: found[chosen] for name, found in vectors.items()}))
    return measured


def _measure(stored: StoredVectors, asked: _Asked, vectors: dict[str, Vectors]) -> SearchQuality:
    subject = asked.subject
    efs = sorted({*SWEEP, subject.ef_search})
    recalls = _recalls(stored, asked, vectors, efs)
    with threads(1):
        one = _speed(asked)
        latencies = _medians(asked, efs)
    with threads(available_cpus()):
        several = _speed(asked)
    return SearchQuality(
        index=subject.name,
        version=subject.manifest.version,
        photos=len(asked.universe),
        behind=abs(len(asked.universe) - subject.manifest.live),
        queries=len(asked.ids),
        k=asked.k,
        ef_search=subject.ef_search,
        recall=recalls[efs.index(subject.ef_search)],
        one_thread=one,
        all_threads=several,
        sweep=tuple(map(SweepPoint, efs, recalls, latencies)),
    )


def _recalls(stored: StoredVectors, asked: _Asked, vectors: dict[str, Vectors], efs: Sequence[int]) -> list[float]:
    """Recall@k at each efSearch, of what a Searcher answers: SPARE more than k, ranked by their exact scores."""
    right = np.zeros(len(efs))
    for start in range(0, len(asked.ids), _QUERIES_PER_LOOKUP):
        some = slice(start, start + _QUERIES_PER_LOOKUP)
        hits = np.stack([asked.subject.answers(asked.rows[some], asked.ids[some], asked.k + SPARE, ef) for ef in efs])
        found = np.unique(hits)
        found = found[place_in(found, asked.universe)[1]]
        images = stored.of(found)
        cosines = {name: vectors[name][some] @ images[name].T for name in asked.subject.weights}
        good = fuse(cosines, asked.subject.weights) >= asked.floor[some, None] - ROUNDING
        places, known = place_in(hits, found)
        rows = np.arange(hits.shape[1])[None, :, None]
        found_right = (good[rows, places] & known).sum(axis=2)
        right += np.minimum(found_right, asked.k).sum(axis=1)
    return [float(share) for share in right / (len(asked.ids) * asked.k)]


def _speed(asked: _Asked) -> Speed:
    latencies = _latencies(asked, asked.subject.ef_search, SINGLE_QUERIES)
    p50, p95, p99 = (float(value) for value in np.percentile(latencies, (50, 95, 99)))
    return Speed(p50, p95, p99, _throughput(asked))


def _latencies(asked: _Asked, ef_search: int, count: int) -> list[float]:
    """Milliseconds of each of up to `count` queries, one after the other; the first ones, which warm up, left out."""
    search, k = asked.subject.reader.search, asked.k + 1
    for row in asked.rows[:3]:
        search(row[np.newaxis], k, ef_search)
    found = []
    for row in asked.rows[:count]:
        started = time.perf_counter()
        search(row[np.newaxis], k, ef_search)
        found.append((time.perf_counter() - started) * 1e3)
    return found


def _medians(asked: _Asked, efs: Sequence[int]) -> list[float]:
    """The median milliseconds of up to SWEEP_QUERIES queries at each efSearch; these take turns."""
    search, k = asked.subject.reader.search, asked.k + 1
    seconds: list[list[float]] = [[] for _ in efs]
    for row in asked.rows[:SWEEP_QUERIES]:
        for ef, found in zip(efs, seconds, strict=True):
            started = time.perf_counter()
            search(row[np.newaxis], k, ef)
            found.append(time.perf_counter() - started)
    return [float(np.median(found)) * 1e3 for found in seconds]


def _throughput(asked: _Asked) -> float:
    """Queries a second, of the quickest call of all queries in THROUGHPUT_S seconds."""
    seconds: list[float] = []
    started = time.perf_counter()
    while not seconds or time.perf_counter() - started < THROUGHPUT_S:
        begun = time.perf_counter()
        asked.subject.reader.search(asked.rows, asked.k + 1, asked.subject.ef_search)
        seconds.append(time.perf_counter() - begun)
    return len(asked.rows) / min(seconds)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let FAISS and BLAS use so many threads in this block."""
    with threadpool_limits(count):
        yield
