"""What a filter costs and finds, in an index of 50,000 vectors of efficientnet's dim (20,000 with --quick).

One thread, 1,000 queries a call; recall@10 by score, against exact search of what is allowed. efSearch is the first of
64, 128, … at which the search without a filter has a recall of 0.99.

recall_1pct, recall_10pct, recall_50pct   recall where so many photos are allowed, at random
recall_unlike                             where the tenth is allowed that is least like the queries, all of which are
                                          like one another: a graph looks for it in the wrong place
qps_10pct                                 queries a second where a tenth is allowed, against those of no filter; the two
                                          take turns, medians
"""

from statistics import median

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import DEFAULTS, PARAMETERS, Metric, report, timed, vector_library, wants_quick
from imgrec.embedders.catalogue import create_embedders
from imgrec.search import Filter, Searcher
from imgrec.search.fusion import index_members
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.reader import Allowed, IndexReader
from imgrec.search.indexes.updating import update_index
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

K, QUERIES, RECALL = 10, 1_000, 0.99
SHARES = {"1pct": "id % 100 = 1", "10pct": "id % 10 = 1", "50pct": "id % 2 = 1"}

Vectors = NDArray[np.float32]


def build(library: Library) -> None:
    """Build the index of efficientnet, if it is not there."""
    embedders = create_embedders(["efficientnet"], library.vector_settings)
    members = index_members("efficientnet", {name: embedder.spec for name, embedder in embedders.items()})
    with Registry.open_for_writing(library.registry_path) as registry:
        folder = IndexFolder(library.indexes_dir, "efficientnet")
        update_index(registry, library.shards_dir, folder, members, DEFAULTS.vector_settings(), PARAMETERS)


def exact(rows: Vectors, queries: Vectors) -> Vectors:
    """The score of the K-th nearest row of each query, (N, 1)."""
    return np.asarray(faiss.knn(queries, rows, K, faiss.METRIC_INNER_PRODUCT)[0][:, -1:])


def recall(reader: IndexReader, queries: Vectors, ef: int, allowed: Allowed | None, worst: Vectors) -> float:
    return float((reader.search(queries, K, ef, allowed)[0] >= worst - 1e-6).mean())


def main() -> None:
    library = vector_library(20_000 if wants_quick(__doc__) else 50_000, "efficientnet")
    build(library)
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(5)
    with Searcher(library.root, "efficientnet") as searcher:
        reader = searcher._serving.open.reader
        with Registry.open_for_reading(library.registry_path) as registry:
            fingerprint = reader.manifest.members[0].fingerprint
            ids = registry.live_ids("efficientnet", fingerprint)
            stored = registry.vectors("efficientnet", fingerprint, ids.tolist())
        rows = np.stack([stored[image_id] for image_id in ids.tolist()])
        noise = random.standard_normal((QUERIES, rows.shape[1]), np.float32) * (0.5 / np.sqrt(rows.shape[1]))
        queries = rows[random.choice(len(rows), QUERIES, replace=False)] + noise
        queries /= np.linalg.norm(queries, axis=1, keepdims=True)
        ef, found = 32, 0.0
        while found < RECALL and ef < 4_096:
            ef *= 2
            found = recall(reader, queries, ef, None, exact(rows, queries))
        details = {
            "vectors": f"{len(rows):,} × {rows.shape[1]}",
            f"recall without a filter, efSearch {ef}": f"{found:.4f}",
        }
        metrics = {}
        for name, where in SHARES.items():
            first_s = timed(lambda where=where: searcher._narrowing.allowed(Filter(where), reader))  # type: ignore[misc]
            allowed = searcher._narrowing.allowed(Filter(where), reader)
            mask = allowed.contains(ids)
            reached = recall(reader, queries, ef, allowed, exact(rows[mask], queries))
            metrics[f"recall_{name}"] = Metric(reached, RECALL, at_least=True)
            details[f"{name}: {where}"] = f"{allowed.images:,} photos, found in {first_s * 1e3:.1f} ms the first time"
        alike = queries[np.argsort(-(queries @ queries[0]))[:100]]
        unlike = np.argsort(rows @ alike.mean(axis=0))[: len(rows) // 10 + 10]
        far = reader.allow(np.sort(ids[unlike]))
        worst = exact(rows[np.sort(unlike)], alike)
        metrics["recall_unlike"] = Metric(recall(reader, alike, ef, far, worst), RECALL, at_least=True)
        tenth = searcher._narrowing.allowed(Filter(SHARES["10pct"]), reader)
        sides: dict[str, list[float]] = {"all": [], "tenth": []}
        for _ in range(5):
            sides["all"].append(timed(lambda: reader.search(queries, K, ef)))
            sides["tenth"].append(timed(lambda: reader.search(queries, K, ef, tenth)))
        all_s, tenth_s = median(sides["all"]), median(sides["tenth"])
        metrics["qps_10pct"] = Metric(all_s / tenth_s, 0.3, at_least=True)
        details["queries a second"] = f"{QUERIES / all_s:,.0f} without a filter, {QUERIES / tenth_s:,.0f} with a tenth"
    report("filters", metrics, details)


if __name__ == "__main__":
    main()
