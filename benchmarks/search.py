"""What a search costs, in a library of 200,000 photos (20,000 with --quick).

warm_vs_faiss     time of one warm library call with the vector at hand, `Searcher.search_vectors` (ids, paths and
                  exact scores of ten hits), against `index.search` of FAISS (offsets and scores) on an IndexHNSWFlat
                  of the same vectors with the same M and efConstruction, at the least efSearch that finds as many of
                  the true ten as ours: one query a call, medians over many. The sides take turns, each with the
                  queries in an order of its own, so that none finds the graph warmed by the one before.
warm_vs_segment   the same against our own segment without the library around it, `OpenSegment.search`: no paths, and
                  for a combination no exact scores.
warm_id_vs_faiss  the same of `Searcher.search(["id:N"])`, which also looks the image's vector up.
combo_warm_vs_faiss, combo_warm_id_vs_faiss
                  the same in an index of colour and sift combined, of 50,000 photos (5,000 with --quick); the call by
                  id also scores each hit in each modality.
threads_8         queries a second of 8 threads that share one Searcher, `search_vectors`, against those of one thread:
                  the same queries in turns, median. It says something on idle cores only; 2 of them are meant.
threads_8_id      the same of `search(["id:N"])`.
cold_s            seconds of a whole `imgrec search id:1`, median.
cold_picture_s    the same of `imgrec search photo.jpg` in the combination that a new library has, color, sift and
                  efficientnet, of 10,000 photos (1,000 with --quick): the picture is decoded and embedded in all three.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import faiss
import numpy as np

from benchmarks.harness import PARAMETERS, Metric, call_fresh, imgrec, report, timed, vector_library, wants_quick
from benchmarks.index import build_ours
from benchmarks.pictures import real_pictures
from imgrec.search import Searcher
from imgrec.search.fusion import default_indexes
from imgrec.search.indexes.layout import IndexFolder, Manifest
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.source import from_blobs
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry

K = 10
THREADS = 8
SAMPLE = 500


def measure_warm(root: str, queries: int) -> dict[str, float]:
    """Median seconds of a query, by side."""
    with Searcher(root) as searcher:
        serving = searcher._serving.open
        random = np.random.default_rng(1)
        with Registry.open_for_reading(searcher.library.registry_path) as registry:
            ids, vectors = _all_vectors(registry, serving.manifest)
        bare = _bare_graph(Path(root), vectors)
        chosen = random.choice(len(ids), queries, replace=False)
        sample = vectors[chosen[:SAMPLE]]
        found = searcher.search_vectors(sample, K)
        ours = np.array([[hit.score for hit in hits] for hits in found], np.float32)
        parameters = _as_good(bare, sample, recall(ours, true_scores(vectors, sample)), true_scores(vectors, sample))
        reader = serving.reader if isinstance(serving.reader, IndexReader) else serving.reader._graph
        segment = max(reader.segments, key=lambda segment: segment.opened.rows).opened
        prepared = segment.parameters(K, serving.manifest.ef_search)
        row = dict(zip(ids.tolist(), vectors, strict=True))
        sides: dict[str, Callable[[int], object]] = {
            "search": lambda image_id: searcher.search([f"id:{image_id}"], K),
            "search_vectors": lambda image_id: searcher.search_vectors(row[image_id][np.newaxis], K),
            "segment": lambda image_id: segment.search(row[image_id][np.newaxis], K, prepared),
            "faiss": lambda image_id: bare.search(row[image_id][np.newaxis], K, params=parameters),
        }
        orders = [random.permutation(ids[chosen]).tolist() for _ in sides]
        times: dict[str, list[float]] = {name: [] for name in sides}
        for turn in zip(*orders, strict=True):
            for (name, side), image_id in zip(sides.items(), turn, strict=True):
                started = time.perf_counter()
                side(image_id)
                times[name].append(time.perf_counter() - started)
    return {name: median(some[queries // 10 :]) for name, some in times.items()}


def _all_vectors(registry: Registry, manifest: Manifest) -> tuple[Ids, Vectors]:
    wanted = registry.complete_ids({member.modality: member.fingerprint for member in manifest.members})
    parts = list(from_blobs(registry, manifest.members, wanted, 8_192))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([rows for _, rows in parts])


def _bare_graph(root: Path, vectors: Vectors) -> faiss.IndexHNSWFlat:
    """FAISS's own graph of these vectors, built once a library."""
    path = root / f"bare-{vectors.shape[1]}.faiss"
    if not path.exists():
        index = faiss.IndexHNSWFlat(vectors.shape[1], PARAMETERS.hnsw_m, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = PARAMETERS.ef_construction
        index.add(vectors)
        faiss.write_index(index, str(path))
    return faiss.read_index(str(path))


def true_scores(vectors: Vectors, queries: Vectors) -> Vectors:
    """The K best inner products of each query, descending."""
    return -np.sort(-(queries @ vectors.T), axis=1)[:, :K]


def recall(scores: Vectors, truth: Vectors) -> float:
    """The share of the true ten that are found, by score: copies count alike."""
    return float((scores >= truth[:, -1:] - 1e-5).sum() / truth.size)


def _as_good(bare: faiss.Index, sample: Vectors, asked: float, truth: Vectors) -> faiss.SearchParametersHNSW:
    for ef_search in (10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
        parameters = faiss.SearchParametersHNSW(efSearch=ef_search)
        if recall(bare.search(sample, K, params=parameters)[0], truth) >= asked:
            break
    return parameters


def measure_threads(root: str, queries: int, rounds: int) -> dict[str, float]:
    """Queries a second of 8 threads, in those of one, by call."""
    with Searcher(root) as searcher:
        (member,) = searcher._serving.open.members
        ids = (np.random.default_rng(2).choice(searcher.photos, queries, replace=False) + 1).tolist()
        with Registry.open_for_reading(searcher.library.registry_path) as registry:
            rows = registry.vectors(member.modality, member.fingerprint, ids)

        def by_id(image_id: int) -> None:
            searcher.search([f"id:{image_id}"], K)

        def by_vector(image_id: int) -> None:
            searcher.search_vectors(rows[image_id][np.newaxis], K)

        def seconds(call: Callable[[int], None], threads: int) -> float:
            def call_all(some: list[int]) -> None:
                for image_id in some:
                    call(image_id)

            with ThreadPoolExecutor(threads) as pool:
                return timed(lambda: list(pool.map(call_all, [ids[thread::threads] for thread in range(threads)])))

        found = {}
        for name, call in (("threads_8", by_vector), ("threads_8_id", by_id)):
            seconds(call, 1)
            found[name] = median(seconds(call, 1) / seconds(call, THREADS) for _ in range(rounds))
        return found


def measure(root: Path, queries: int, rounds: int) -> dict[str, float]:
    """Build the default index if it is not there; return median seconds of a query, by side."""
    _build_default(root)
    warm = [call_fresh(measure_warm, root, queries) for _ in range(rounds)]
    return {name: median(some[name] for some in warm) for name in warm[0]}


def _build_default(root: Path) -> None:
    if not IndexFolder(root / "indexes", default_indexes(open_library(root).modalities)[-1]).current_version():
        call_fresh(build_ours, root)


def main() -> None:
    quick = wants_quick(__doc__)
    count, queries, rounds, cold = (20_000, 2_000, 1, 3) if quick else (200_000, 3_000, 3, 9)
    root = vector_library(count).root
    seconds = measure(root, queries, rounds)
    combo = measure(vector_library(count // 4, "sift").root, queries, rounds)
    threads = call_fresh(measure_threads, root, queries, 5)
    imgrec("search", "id:1", "--library", root)
    cold_s = median(timed(lambda: imgrec("search", "id:1", "--library", root)) for _ in range(cold))
    photo, three = real_pictures()[0], vector_library(count // 20, "sift", "efficientnet").root
    _build_default(three)
    imgrec("search", photo, "--library", three)
    cold_picture_s = median(timed(lambda: imgrec("search", photo, "--library", three)) for _ in range(cold))
    details = {f"{name}, warm": f"{some * 1e3:.3f} ms" for name, some in seconds.items()}
    details |= {f"{name}, combined, warm": f"{some * 1e3:.3f} ms" for name, some in combo.items()}
    metrics = {
        "warm_vs_faiss": Metric(seconds["search_vectors"] / seconds["faiss"], 1.2),
        "warm_vs_segment": Metric(seconds["search_vectors"] / seconds["segment"]),
        "warm_id_vs_faiss": Metric(seconds["search"] / seconds["faiss"]),
        "combo_warm_vs_faiss": Metric(combo["search_vectors"] / combo["faiss"], 1.2),
        "combo_warm_vs_segment": Metric(combo["search_vectors"] / combo["segment"]),
        "combo_warm_id_vs_faiss": Metric(combo["search"] / combo["faiss"]),
        "threads_8": Metric(threads["threads_8"], 1.6, at_least=True),
        "threads_8_id": Metric(threads["threads_8_id"]),
        "cold_s": Metric(cold_s, 1.5),
        "cold_picture_s": Metric(cold_picture_s, 1.2),
    }
    report("search", metrics, {"vectors": f"{count:,}, combined {count // 4:,}", **details})


if __name__ == "__main__":
    main()
