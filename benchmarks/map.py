"""What a map costs: UMAP from known neighbours, clusters, memory.

vs_umap           seconds of `search.map` to lay out 50,000 × 512 (5,000 with --quick) in two dimensions, the neighbours
                  from the library's index included, in those of plain umap-learn's `UMAP(metric="cosine")`: the same
                  vectors, seed and threads, medians of rounds that take turns, kernels compiled before.
vs_umap_kept      the share of the true 15 nearest neighbours of 2,000 points that are among the 15 nearest on the map,
                  less the same share of plain umap-learn's: −0.01 or more.
clusters_500k_s   seconds of HDBSCAN of 500,000 points in two dimensions (50,000 with --quick), 200 groups and noise.
peak_gb           largest memory of a process that maps 1,000,000 × 512 (20,000 with --quick): `map_points` of them by
                  UMAP, the others beside them, clusters and graph included.
"""

import time
from pathlib import Path
from statistics import median
from typing import Any

import faiss
import numpy as np

from benchmarks.harness import Metric, Vectors, call_fresh, peak_bytes, report, timed, vector_library, wants_quick
from benchmarks.index import build_ours
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.map.clusters import default_min_size, find_clusters
from imgrec.search.map.embedding import lay_out
from imgrec.search.map.making import MapParameters, Watch, _neighbours, make_map
from imgrec.search.map.photos import Photos
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry

K, SEED = 15, 0
_QUERIES = 2_000
# Up to 4,096 points umap-learn compares each with each; more of them have pynndescent compiled, too.
_COMPILED = 4_500


def measure_umap(root: str, rounds: int) -> dict[str, float]:
    """Seconds and kept neighbours of both sides."""
    from umap import UMAP

    library = open_library(Path(root))
    with Registry.open_for_reading(library.registry_path) as registry:
        photos = Photos.open(library, registry, "color")
        ids = photos.ids
        vectors = np.concatenate([rows for _, rows in photos.vectors_of(ids)])
        seconds: dict[str, list[float]] = {"ours": [], "umap": []}
        places: dict[str, Vectors] = {}

        def ours() -> None:
            neighbours, start = _neighbours(photos, MapParameters(seed=SEED), ids, photos.finder(ids), Watch())
            places["ours"] = lay_out(neighbours, start[:, :2], 0.1, SEED)[neighbours.point_of]

        def plain() -> None:
            with_seed = UMAP(n_neighbors=K, min_dist=0.1, metric="cosine", random_state=SEED, n_jobs=1)
            places["umap"] = with_seed.fit_transform(vectors)

        _compile(vectors[:_COMPILED])
        for _ in range(rounds):
            seconds["ours"].append(timed(ours))
            seconds["umap"].append(timed(plain))
        in_order = np.concatenate([some for some, _ in photos.vectors_of(ids)])
        places["umap"] = places["umap"][np.argsort(in_order)]
        rows = vectors[np.argsort(in_order)]
    kept = {f"{side}_kept": _kept(rows, places[side]) for side in places}
    return {**{side: median(some) for side, some in seconds.items()}, **kept}


def measure_clusters(count: int) -> float:
    """Seconds of clustering made places."""
    random = np.random.default_rng(0)
    centres, widths = random.uniform(-100, 100, (200, 2)), random.uniform(0.3, 2, 200)
    groups = random.integers(0, 200, count)
    places = centres[groups] + widths[groups, np.newaxis] * random.standard_normal((count, 2))
    places[: count // 20] = random.uniform(-100, 100, (count // 20, 2))
    find_clusters(places[:1_000].astype(np.float32), 5)
    return timed(lambda: find_clusters(places.astype(np.float32), default_min_size(count)))


def measure_peak(root: str, map_points: int) -> dict[str, float]:
    """Memory and seconds of a whole map."""
    library = open_library(Path(root))
    started = time.perf_counter()
    with Registry.open_for_reading(library.registry_path) as registry:
        made = make_map(Photos.open(library, registry, "color"), MapParameters(map_points=map_points))
    return {"bytes": peak_bytes(), "seconds": time.perf_counter() - started, "photos": len(made)}


def _compile(vectors: Vectors) -> None:
    from umap import UMAP

    UMAP(metric="cosine", random_state=SEED, n_jobs=1).fit(vectors)


def _kept(vectors: Vectors, places: Vectors) -> float:
    chosen = np.random.default_rng(1).choice(len(vectors), min(_QUERIES, len(vectors)), replace=False)
    found = []
    for rows, metric in ((vectors, faiss.METRIC_INNER_PRODUCT), (np.ascontiguousarray(places), faiss.METRIC_L2)):
        index = faiss.index_factory(rows.shape[1], "Flat", metric)
        index.add(rows)
        found.append(index.search(rows[chosen], K + 1)[1])
    pairs = zip(chosen.tolist(), *found, strict=True)
    return float(np.mean([len(set(real) & set(near) - {row}) / K for row, real, near in pairs]))


def _indexed(count: int) -> Path:
    root = vector_library(count).root
    if not IndexFolder(root / "indexes", "color").current_version():
        call_fresh(build_ours, root)
    return root


def main() -> None:
    quick = wants_quick(__doc__)
    small, groups, many, points, rounds = (
        (5_000, 50_000, 20_000, 5_000, 1) if quick else (50_000, 500_000, 1_000_000, 200_000, 3)
    )
    sides: dict[str, Any] = call_fresh(measure_umap, _indexed(small), rounds)
    clusters_s = call_fresh(measure_clusters, groups)
    peak = call_fresh(measure_peak, _indexed(many), points)
    metrics = {
        "vs_umap": Metric(sides["ours"] / sides["umap"], 0.7),
        "vs_umap_kept": Metric(sides["ours_kept"] - sides["umap_kept"], -0.01, at_least=True),
        "clusters_500k_s": Metric(clusters_s, 10),
        "peak_gb": Metric(peak["bytes"] / 1e9, 6),
    }
    details = {
        f"{small:,} × 512: ours, plain": f"{sides['ours']:.1f} s, {sides['umap']:.1f} s",
        "neighbours kept: ours, plain": f"{sides['ours_kept']:.3f}, {sides['umap_kept']:.3f}",
        "clusters of": f"{groups:,} points",
        f"map of {many:,}": f"{peak['seconds']:.0f} s, {points:,} by UMAP",
    }
    report("map", metrics, details)


if __name__ == "__main__":
    main()
