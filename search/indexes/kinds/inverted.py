"""Inverted lists of four-bit codes, scanned in the processor's registers; what they find is ranked again by rows.

IVF: https://doi.org/10.1109/TPAMI.2010.57, fast scan: https://arxiv.org/abs/1704.07355. This is for vectors that no
graph leads to: colour histograms, whose clusters are islands, and SIFT's, whose distances are all alike.
"""

import os
from math import isqrt
from pathlib import Path
from typing import Any

import faiss

from imgrec.search.indexes.kinds.exact import ROWS, ExactBuilder
from imgrec.search.indexes.kinds.kind import Builder, Kind, OpenSegment, Training, as_cosines
from imgrec.search.indexes.rows import Rows
from imgrec.search.indexes.vectors import Mask, Offsets, Vectors
from imgrec.search.indexes.writing import write_faiss

LISTS = "lists.faiss"
# Vectors of a list's centre are learned from so many of the sample, at least.
SAMPLE_A_LIST = 32
# With this ef_search and beyond, every list is scanned.
EF_FOR_ALL = 512
# Longer vectors are not rotated before they are coded, which would take longer than the search, and get one code for
# four numbers instead of two.
LONG = 1_024
_SEED = 5


class InvertedBuilder(Builder):
    def __init__(self, folder: Path, training: Training) -> None:
        self._path = folder / LISTS
        self._rows = ExactBuilder(folder, training)
        self._index = _train(training)

    def add(self, vectors: Vectors) -> None:
        self._rows.add(vectors)
        self._index.add(vectors)

    def finish(self) -> None:
        write_faiss(self._path, self._index)
        self._rows.finish()


class OpenInverted(OpenSegment):
    def __init__(self, index: faiss.Index, rows: Rows) -> None:
        self._lists = index
        self._rows = rows
        self._nlist = faiss.extract_index_ivf(index).nlist
        self._is_rotated = isinstance(faiss.downcast_index(index), faiss.IndexPreTransform)
        self._index = faiss.IndexRefine(index, rows.index)

    @property
    def rows(self) -> int:
        return int(self._lists.ntotal)

    def parameters(self, k: int, ef_search: int, selector: Any = None) -> Any:
        nprobe = max(1, min(self._nlist, self._nlist * ef_search // EF_FOR_ALL))
        lists = faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
        if self._is_rotated:
            lists = faiss.SearchParametersPreTransform(index_params=lists)
        return faiss.IndexRefineSearchParameters(k_factor=max(1.0, ef_search / k), base_index_params=lists)

    def search(self, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Offsets]:
        distances, offsets = self._index.search(queries, k, params=parameters)
        return as_cosines(distances, offsets), offsets

    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        return self._rows.differ(offsets, vectors)

    def vectors_of(self, offsets: Offsets) -> Vectors:
        return self._rows.decode(offsets)

    def products(self, query: Vectors, offsets: Offsets) -> Vectors:
        return self._rows.products(query, offsets)


class Inverted(Kind):
    name = "inverted"

    def builder(self, folder: Path, training: Training) -> Builder:
        return InvertedBuilder(folder, training)

    def open(self, folder: Path) -> OpenSegment:
        lists = faiss.read_index(os.fspath(folder / LISTS), faiss.IO_FLAG_MMAP_IFC)
        return OpenInverted(lists, Rows.open(folder / ROWS))


def _train(training: Training) -> faiss.Index:
    """Learn centres and codes from the sample; the same sample gives the same ones on one machine."""
    dim = training.dim
    nlist = max(1, min(2 * isqrt(training.expected), len(training.sample) // SAMPLE_A_LIST))
    is_long = dim > LONG and dim % 8 == 0
    coded = dim if is_long else -(-dim // 4) * 4
    factory = f"IVF{nlist},PQ{coded // 4 if is_long else coded // 2}x4fs"
    index = faiss.index_factory(dim, factory if is_long else f"RR{coded},{factory}", faiss.METRIC_L2)
    faiss.extract_index_ivf(index).cp.seed = _SEED
    index.train(training.sample)
    return index
