"""Rows, each compared with the query: nothing is faster for a few thousand, and nothing is missed."""

from pathlib import Path
from typing import Any

import faiss

from imgrec.search.indexes.kinds.kind import Builder, Kind, OpenSegment, Training, as_cosines
from imgrec.search.indexes.rows import Rows, RowsWriter, find_ranges
from imgrec.search.indexes.vectors import Mask, Offsets, Vectors

ROWS = "rows.faiss"


class ExactBuilder(Builder):
    def __init__(self, folder: Path, training: Training) -> None:
        ranges = find_ranges(training.sample) if training.like is None else Rows.open(training.like / ROWS).ranges
        self._file = open(folder / ROWS, "wb")  # noqa: SIM115 # finish closes it
        self._rows = RowsWriter(self._file, ranges)
        if training.base is not None:
            base = Rows.open(training.base / ROWS)
            self._rows.add_codes(base.codes)

    def add(self, vectors: Vectors) -> None:
        self._rows.add(vectors)

    def finish(self) -> None:
        self._rows.finish()
        self._file.close()


class OpenExact(OpenSegment):
    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def rows(self) -> int:
        return len(self._rows)

    def parameters(self, k: int, ef_search: int, selector: Any = None) -> Any:
        return faiss.SearchParameters(sel=selector)

    def search(self, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Offsets]:
        distances, offsets = self._rows.index.search(queries, k, params=parameters)
        return as_cosines(distances, offsets), offsets

    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        return self._rows.differ(offsets, vectors)

    def vectors_of(self, offsets: Offsets) -> Vectors:
        return self._rows.decode(offsets)

    def products(self, query: Vectors, offsets: Offsets) -> Vectors:
        return self._rows.products(query, offsets)


class Exact(Kind):
    name = "exact"

    def builder(self, folder: Path, training: Training) -> Builder:
        return ExactBuilder(folder, training)

    def open(self, folder: Path) -> OpenSegment:
        return OpenExact(Rows.open(folder / ROWS))
