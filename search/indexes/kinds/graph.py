"""An HNSW graph over reduced rows; what it finds is ranked again by rows of all dimensions.

HNSW: https://arxiv.org/abs/1603.09320. The reduced rows are bytes, compared as bytes (FAISS's QT_8bit_direct_signed),
so that queries have to be whole numbers too. FAISS's IndexRefine hands one query to both of its parts, the graph and
the rows; so it is given `[reduced query | query]`, and each part takes its own columns.
"""

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.kinds.exact import ROWS, ExactBuilder
from imgrec.search.indexes.kinds.kind import Builder, Kind, OpenSegment, Training, as_cosines
from imgrec.search.indexes.reduction import Reduction, read_reduction, train_reduction
from imgrec.search.indexes.rows import Rows
from imgrec.search.indexes.vectors import Mask, Offsets, Vectors
from imgrec.search.indexes.writing import write_faiss

GRAPH = "graph.faiss"
REDUCTION = "reduction.npy"
REDUCED_DIM = 256
# Rows added to a graph at once: its threads wait for each other at the end of each, and it takes 1 KB a row meanwhile.
ROWS_AT_ONCE = 131_072


class GraphBuilder(Builder):
    """Builds a graph, and the rows beside it, if there are to be any."""

    def __init__(self, folder: Path, training: Training, with_rows: bool) -> None:
        self._folder = folder
        if training.like is None:
            self._reduction = train_reduction(training.sample, REDUCED_DIM)
        else:
            self._reduction = read_reduction(training.like / REDUCTION)
        self._rows = ExactBuilder(folder, training) if with_rows else None
        self._graph = _begin_graph(self._reduction.dim, training)
        self._waiting: list[NDArray[np.int8]] = []

    def add(self, vectors: Vectors) -> None:
        if self._rows is not None:
            self._rows.add(vectors)
        self._waiting.append(self._reduction.reduce(vectors).astype(np.int8))
        if sum(map(len, self._waiting)) >= ROWS_AT_ONCE:
            self._add_waiting()

    def finish(self) -> None:
        self._add_waiting()
        write_faiss(self._folder / GRAPH, self._graph)
        self._reduction.write(self._folder / REDUCTION)
        if self._rows is not None:
            self._rows.finish()

    def _add_waiting(self) -> None:
        if self._waiting:
            self._graph.add(np.concatenate(self._waiting).astype(np.float32))
            self._waiting.clear()


class OpenGraph(OpenSegment):
    def __init__(self, graph: faiss.Index, reduction: Reduction, rows: Rows | None) -> None:
        self._graph = graph
        self._reduction = reduction
        self._rows = rows
        self._parts: tuple[faiss.Index, ...] = ()  # FAISS does not own what it is made of
        self._index: faiss.Index = graph if rows is None else self._refining(rows)

    @property
    def rows(self) -> int:
        return int(self._graph.ntotal)

    @property
    def has_rows(self) -> bool:
        return self._rows is not None

    def parameters(self, k: int, ef_search: int, selector: Any = None) -> Any:
        graph = faiss.SearchParametersHNSW(sel=selector, efSearch=max(ef_search, k))
        if self._rows is None:
            return graph
        return faiss.IndexRefineSearchParameters(
            k_factor=max(1.0, ef_search / k),
            base_index_params=faiss.SearchParametersPreTransform(index_params=graph),
        )

    def search(self, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Offsets]:
        reduced = self._reduction.reduce(queries)
        if self._rows is None:
            distances, offsets = self._index.search(reduced, k, params=parameters)
            return -distances, offsets
        both = np.concatenate([reduced, queries], axis=1)
        distances, offsets = self._index.search(both, k, params=parameters)
        return as_cosines(distances, offsets), offsets

    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        bytes_of = faiss.downcast_index(faiss.downcast_index(self._graph).storage)
        reduced = np.stack([bytes_of.reconstruct(offset) for offset in offsets.tolist()])
        wrong: Mask = np.abs(reduced - self._reduction.reduce(vectors)).max(axis=1) > 1
        return wrong if self._rows is None else wrong | self._rows.differ(offsets, vectors)

    def vectors_of(self, offsets: Offsets) -> Vectors:
        if self._rows is None:
            raise ValueError("a combination has no rows of its own: its modalities' indexes have them")
        return self._rows.decode(offsets)

    def products(self, query: Vectors, offsets: Offsets) -> Vectors:
        return self.vectors_of(offsets) @ query if self._rows is None else self._rows.products(query, offsets)

    def _refining(self, rows: Rows) -> faiss.IndexRefine:
        short, long = self._reduction.dim, rows.dim
        graph = faiss.IndexPreTransform(_columns(0, short, short + long), self._graph)
        exact = faiss.IndexPreTransform(_columns(short, long, short + long), rows.index)
        self._parts = (graph, exact)
        return faiss.IndexRefine(graph, exact)


class Graph(Kind):
    """A graph and rows."""

    name = "graph"

    def builder(self, folder: Path, training: Training) -> Builder:
        return GraphBuilder(folder, training, with_rows=True)

    def open(self, folder: Path) -> OpenSegment:
        return _open(folder, Rows.open(folder / ROWS))


class GraphOnly(Kind):
    """A graph without rows: a combination's, whose modalities' indexes have them."""

    name = "graph-only"

    def builder(self, folder: Path, training: Training) -> Builder:
        return GraphBuilder(folder, training, with_rows=False)

    def open(self, folder: Path) -> OpenSegment:
        return _open(folder, None)


def _open(folder: Path, rows: Rows | None) -> OpenGraph:
    graph = faiss.read_index(os.fspath(folder / GRAPH), faiss.IO_FLAG_MMAP_IFC)
    return OpenGraph(graph, read_reduction(folder / REDUCTION), rows)


def _begin_graph(dim: int, training: Training) -> faiss.Index:
    if training.base is not None:
        return faiss.read_index(os.fspath(training.base / GRAPH))  # into memory: a mapped one cannot be added to
    graph = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit_direct_signed, training.hnsw_m)
    graph.hnsw.efConstruction = training.ef_construction
    graph.is_trained = True  # bytes need no training
    return graph


def _columns(start: int, count: int, of: int) -> faiss.RemapDimensionsTransform:
    """Takes `count` columns from `start` on, of vectors of `of` columns."""
    taken = faiss.RemapDimensionsTransform(of, count, False)
    faiss.copy_array_to_vector(np.arange(start, start + count, dtype=np.int32), taken.map)
    return taken
