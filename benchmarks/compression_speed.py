"""Graphs over compressed rows, re-scored exactly: `python -m benchmarks.compression_speed VECTORS.npy [--views N]`.

One thread, one batched call of 1,000 unseen queries. Every graph is what the kind `graph` builds (int8 after a random
rotation, HNSW 24, efConstruction 100) of vectors reduced to 256 numbers (the kind's own), to 64, and encoded to 64 by
PCA and by the autoencoder. What each finds is ranked by exact scores from bf16 rows, which all have, so bytes are those
of the graph and of the rows. q/s are those of the fewest candidates that reach recall@10 = 0.99; a graph that does not
reach it with 512 says so.
"""

import argparse
import time
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from benchmarks.compression import SETTINGS, part
from imgrec.embedders.compression.methods import fit
from imgrec.search.indexes.reduction import train_reduction

Vectors = NDArray[np.float32]
LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
K, QUERIES, GOAL, ROUNDS = 10, 1_000, 0.99, 3
LINKS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--views", type=int, default=4)
    asked = parser.parse_args()
    faiss.omp_set_num_threads(1)
    learnt, judged, _ = part(np.load(asked.vectors, mmap_mode="r"), asked.views, 0, 0.15)
    base, queries = np.unique(learnt, axis=0), judged[:QUERIES]
    rows = faiss.IndexScalarQuantizer(base.shape[1], faiss.ScalarQuantizer.QT_bf16)  # L2, as the graph's
    rows.add(base)
    exact = faiss.IndexFlatIP(base.shape[1])
    exact.add(base)
    floor = exact.search(queries, K)[0][:, -1:] - 1e-6
    for name, encoder, dim in (
        ("graph 256 (the kind's own)", None, 256),
        ("graph 64", None, 64),
        ("pca64 + graph", fit("pca", base, 64, {}), 64),
        ("ae64 + graph", fit("ae", base, 64, {}, 0, SETTINGS), 64),
    ):

        def short(some: Vectors, encoder: object = encoder) -> Vectors:
            return some if encoder is None else encoder.encode(some)  # type: ignore[attr-defined]

        reduction = train_reduction(short(base), dim)
        graph = faiss.IndexHNSWSQ(reduction.dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, LINKS)
        graph.hnsw.efConstruction = 100
        started = time.process_time()
        graph.is_trained = True
        graph.add(reduction.reduce(short(base)))
        build = time.process_time() - started
        parts = [columns(0, dim, dim + base.shape[1], graph), columns(dim, base.shape[1], dim + base.shape[1], rows)]
        index = faiss.IndexRefine(*parts)
        found = []
        for ef in LADDER:
            parameters = faiss.IndexRefineSearchParameters(
                k_factor=max(1.0, ef / K),
                base_index_params=faiss.SearchParametersPreTransform(
                    index_params=faiss.SearchParametersHNSW(efSearch=ef)
                ),
            )
            times = []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                both = np.concatenate([reduction.reduce(short(queries)), queries], axis=1)
                _, near = index.search(both, K, params=parameters)
                times.append(time.perf_counter() - began)
            scores = np.einsum("qd,qkd->qk", queries, base[near])
            found.append((float((scores >= floor).mean()), QUERIES / min(times)))
        size = graph_bytes(graph) + base.size * 2
        reached = [qps for recall, qps in found if recall >= GOAL]
        best = f"{max(reached):,.0f} q/s" if reached else f"never: {found[-1][0]:.4f} at {found[-1][1]:,.0f} q/s"
        print(
            f"{name}: {best} at {GOAL}; {size / 1e6:.1f} MB, graph {graph_bytes(graph) / 1e6:.1f}, build {build:.1f} s"
        )


def columns(start: int, count: int, of: int, index: faiss.Index) -> faiss.IndexPreTransform:
    """An index that takes `count` columns from `start` on, of queries of `of` columns."""
    taken = faiss.RemapDimensionsTransform(of, count, False)
    faiss.copy_array_to_vector(np.arange(start, start + count, dtype=np.int32), taken.map)
    return faiss.IndexPreTransform(taken, index)


def graph_bytes(graph: faiss.Index) -> int:
    return len(faiss.serialize_index(graph))


if __name__ == "__main__":
    main()
