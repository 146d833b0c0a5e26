"""What every kind of segment can do: be built from a stream of vectors, opened, searched, and read back.

A kind is chosen for an index; all of its large segments are of that kind. A segment's files lie in one folder, are
written once, and are mapped into memory by readers.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from imgrec.search.indexes.vectors import Mask, Offsets, Vectors

NO_ROW = -1


@dataclass(frozen=True)
class Training:
    """What a build knows before it sees all vectors.

    `sample` is (N, dim) of them; `expected` is about how many come. `like` is the folder of a segment whose ranges and
    reduction the new one takes, instead of learning its own from the sample, and `base` that of one whose rows it
    begins with.
    """

    sample: Vectors
    expected: int
    hnsw_m: int
    ef_construction: int
    like: Path | None = None
    base: Path | None = None

    @property
    def dim(self) -> int:
        return int(self.sample.shape[1])


class Builder(ABC):
    """Takes vectors as they come, and writes the files of a segment in the end."""

    @abstractmethod
    def add(self, vectors: Vectors) -> None:
        """Add (N, dim) vectors as the next rows."""

    @abstractmethod
    def finish(self) -> None:
        """Write everything; the caller syncs the files."""


class OpenSegment(ABC):
    """The open files of a segment: offsets and scores for queries. Any number of threads may search it."""

    @property
    @abstractmethod
    def rows(self) -> int:
        """How many there are."""

    @property
    def has_rows(self) -> bool:
        """Whether vectors can be read back: not of a combination, whose modalities' indexes have them."""
        return True

    @abstractmethod
    def parameters(self, k: int, ef_search: int, selector: Any = None) -> Any:
        """What `search` wants to be told beside queries; worth keeping, since to make it takes a tenth of a search.

        `ef_search` is how many candidates are looked at (efSearch of a graph), `selector` a faiss.IDSelector of rows,
        or None for all.
        """

    @abstractmethod
    def search(self, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Offsets]:
        """Return cosines, near enough to rank, and offsets of rows, both (queries, k), best first.

        Short lines end in offset -1 and score -inf. A segment without rows returns what its graph compared instead of
        cosines: larger is closer, and no more than that.
        """

    @abstractmethod
    def differ(self, offsets: Offsets, vectors: Vectors) -> Mask:
        """Say which rows are not what a build makes of these vectors (N, dim), but for rounding."""

    @abstractmethod
    def vectors_of(self, offsets: Offsets) -> Vectors:
        """Return the vectors of rows, (N, dim), as near as the segment has them."""

    def products(self, query: Vectors, offsets: Offsets) -> Vectors:
        """The inner products of one query (dim,) with rows, (N,), as near as the segment has them."""
        found: Vectors = self.vectors_of(offsets) @ query
        return found


class Kind(ABC):
    """One kind of segment."""

    name: ClassVar[str]

    @abstractmethod
    def builder(self, folder: Path, training: Training) -> Builder:
        """Begin a segment in an empty folder."""

    @abstractmethod
    def open(self, folder: Path) -> OpenSegment:
        """Map a segment's files.

        Raises:
            RuntimeError, OSError, ValueError, EOFError: they are damaged, or the machine refuses to open them.
        """


def as_cosines(distances: Vectors, offsets: Offsets) -> Vectors:
    """Turn squared distances of unit vectors into cosines, in place; where no row was found, into -inf."""
    distances *= np.float32(-0.5)
    distances += np.float32(1)
    if (offsets[:, -1] < 0).any():
        distances[offsets < 0] = -np.inf
    return distances
