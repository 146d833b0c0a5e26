"""Vectors as rows of bytes: a quarter of their size, near enough to rank what a graph found.

A number of a row is one of 256 steps between the least and the greatest of its column. FAISS's IndexScalarQuantizer
(QT_8bit) reads the file, so it is mapped into memory and searched without being read; the file is written as a stream,
since the rows of a large library are more than its memory.
"""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.indexes.vectors import Mask, Offsets, Vectors

Codes = NDArray[np.uint8]

# What comes later may lie beyond the least and the greatest of the sample, by this share of what lies between.
MARGIN = 0.02
# A column in which all are alike still needs a step.
_LEAST_SPAN = 1e-6


@dataclass(frozen=True)
class Ranges:
    """What the bytes of a row mean: `least` and `span` (greatest − least) of each column, (dim,) float32."""

    least: Vectors
    span: Vectors

    @property
    def dim(self) -> int:
        return len(self.least)

    def empty_rows(self) -> faiss.IndexScalarQuantizer:
        """An index of such rows, without any."""
        index = faiss.IndexScalarQuantizer(self.dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_L2)
        faiss.copy_array_to_vector(np.concatenate([self.least, self.span]), index.sq.trained)
        index.is_trained = True
        return index


def find_ranges(sample: Vectors) -> Ranges:
    """The ranges of vectors like those of the sample, (N, dim)."""
    least, greatest = sample.min(axis=0), sample.max(axis=0)
    margin = (greatest - least) * np.float32(MARGIN)
    return Ranges(least - margin, np.maximum(greatest - least + 2 * margin, np.float32(_LEAST_SPAN)))


class RowsWriter:
    """Writes rows to a file as they come; `finish` makes it one that FAISS reads."""

    def __init__(self, file: BinaryIO, ranges: Ranges) -> None:
        self._file = file
        self._rows = ranges.empty_rows()
        self._count = 0
        file.write(self._header())

    def add(self, vectors: Vectors) -> None:
        self.add_codes(self._rows.sa_encode(np.ascontiguousarray(vectors, np.float32)))

    def add_codes(self, codes: Codes) -> None:
        self._file.write(np.ascontiguousarray(codes).data)
        self._count += len(codes)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())
        self._file.seek(0, os.SEEK_END)

    def _header(self) -> bytes:
        """What `faiss.write_index` writes before the codes: the last eight bytes are their number."""
        self._rows.ntotal = self._count
        header: bytes = faiss.serialize_index(self._rows).tobytes()
        return b"".join([header[:-8], (self._count * self._rows.d).to_bytes(8, "little")])


class Rows:
    """Open rows."""

    def __init__(self, index: faiss.Index) -> None:
        self._owner = index  # what a downcast index points into
        self.index: faiss.IndexScalarQuantizer = faiss.downcast_index(index)

    @classmethod
    def open(cls, path: Path) -> "Rows":
        """Map a file of rows into memory.

        Raises:
            RuntimeError: FAISS cannot read it.
        """
        return cls(faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP_IFC))

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def dim(self) -> int:
        return int(self.index.d)

    @cached_property
    def ranges(self) -> Ranges:
        least, span = faiss.vector_to_array(self.index.sq.trained).reshape(2, -1)
        return Ranges(least, span)

    @cached_property
    def codes(self) -> Codes:
        """All bytes, (N, dim), where they lie: only for as long as these rows are open."""
        view = faiss.rev_swig_ptr(self.index.codes.data(), len(self) * self.dim)
        return np.asarray(view, np.uint8).reshape(len(self), self.dim)

    def decode(self, offsets: Offsets) -> Vectors:
        """The vectors that rows stand for, (N, dim) float32."""
        least, span = self.ranges.least, self.ranges.span
        decoded = self.codes[offsets].astype(np.float32)
        decoded += np.float32(0.5)
        decoded *= span / np.float32(255)
        decoded += least
        return decoded

    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        """Which rows are not these vectors (N, dim), but for a step."""
        codes = self.index.sa_encode(np.ascontiguousarray(vectors, np.float32))
        wrong: Mask = np.abs(codes.astype(np.int16) - self.codes[offsets]).max(axis=1, initial=0) > 1
        return wrong

    def products(self, query: Vectors, offsets: Offsets) -> Vectors:
        """The inner products of one query (dim,) with rows, (N,) float32, without decoding them."""
        least, span = self.ranges.least, self.ranges.span
        steps = query * (span / np.float32(255))
        found: Vectors = self.codes[offsets].astype(np.float32) @ steps
        found += query @ least + steps.sum() / 2
        return found
