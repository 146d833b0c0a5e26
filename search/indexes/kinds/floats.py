"""Vectors at full length, in an HNSW graph or without one: what libraries had before there were reduced graphs.

The graph can still be asked for; `flat` segments are read, and no longer written.
"""

import os
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from imgrec.search.indexes.kinds.kind import Builder, Kind, OpenSegment, Training
from imgrec.search.indexes.vectors import Mask, Offsets, Vectors
from imgrec.search.indexes.writing import write_faiss

INDEX = "index.faiss"
# A combined row is scaled and summed in float32.
_ROUNDING = 1e-5


class HnswBuilder(Builder):
    def __init__(self, folder: Path, training: Training) -> None:
        self._path = folder / INDEX
        if training.base is None:
            self._index = faiss.IndexHNSWFlat(training.dim, training.hnsw_m, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction = training.ef_construction
        else:
            self._index = faiss.read_index(os.fspath(training.base / INDEX))
        self._waiting: list[Vectors] = []

    def add(self, vectors: Vectors) -> None:
        self._waiting.append(np.array(vectors, np.float32))

    def finish(self) -> None:
        if self._waiting:  # at once: FAISS's threads wait for one another once and not at the end of every batch
            self._index.add(np.concatenate(self._waiting))
        write_faiss(self._path, self._index)


class OpenFloats(OpenSegment):
    """Inner products of unit vectors are their cosines, exactly."""

    def __init__(self, index: faiss.Index, is_graph: bool) -> None:
        self._index = index
        self._is_graph = is_graph
        self._vectors = faiss.downcast_index(faiss.downcast_index(index).storage) if is_graph else index

    @property
    def rows(self) -> int:
        return int(self._index.ntotal)

    def parameters(self, k: int, ef_search: int, selector: Any = None) -> Any:
        if self._is_graph:
            return faiss.SearchParametersHNSW(sel=selector, efSearch=max(ef_search, k))
        return faiss.SearchParameters(sel=selector)

    def search(self, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Offsets]:
        scores, offsets = self._index.search(queries, k, params=parameters)
        if (offsets[:, -1] < 0).any():  # FAISS ends short rows with offset -1 and the lowest float
            scores[offsets < 0] = -np.inf
        return scores, offsets

    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        wrong: Mask = np.abs(self.vectors_of(offsets) - vectors).max(axis=1, initial=0) > _ROUNDING
        return wrong

    def vectors_of(self, offsets: Offsets) -> Vectors:
        found = np.empty((len(offsets), self._index.d), np.float32)
        for place, offset in enumerate(offsets.tolist()):
            self._vectors.reconstruct(offset, found[place])
        return found


class Hnsw(Kind):
    name = "hnsw"

    def builder(self, folder: Path, training: Training) -> Builder:
        return HnswBuilder(folder, training)

    def open(self, folder: Path) -> OpenSegment:
        return OpenFloats(faiss.read_index(os.fspath(folder / INDEX), faiss.IO_FLAG_MMAP_IFC), is_graph=True)


class Flat(Kind):
    name = "flat"

    def builder(self, folder: Path, training: Training) -> Builder:
        raise NotImplementedError("flat segments are only read: exact ones are written instead")

    def open(self, folder: Path) -> OpenSegment:
        return OpenFloats(faiss.read_index(os.fspath(folder / INDEX), faiss.IO_FLAG_MMAP_IFC), is_graph=False)
