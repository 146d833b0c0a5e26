"""Vectors made short for a graph: projected, rotated, rounded to bytes.

The projection keeps the principal components (https://doi.org/10.1080/14786440109462720), which centres the vectors,
so reduced rows are compared by their Euclidean distance: their inner products are no longer those of the vectors. The
random rotation spreads the variance over all dimensions, so that one scale of bytes serves all of them.
"""

from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.inner_products import inner_products
from imgrec.search.indexes.writing import write_array

Vectors = NDArray[np.float32]

# FAISS's kernels of bytes take 32 dimensions at a time.
DIMS_AT_ONCE = 32
LARGEST = 127
# So many of a thousand numbers may lie beyond the largest byte, and are cut off.
CUT_SHARE = 1e-4
# Fewer vectors than these are not worth more than one thread.
FEW = 3
_SEED = 5
# Of the subspace iteration.
OVERSAMPLED, POWER_ITERATIONS = 32, 3


@dataclass(frozen=True)
class Reduction:
    """Maps vectors (N, dim) to (N, reduced dim) by `matrix` (reduced dim, dim) and `offset` (reduced dim,), float32."""

    matrix: Vectors
    offset: Vectors

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[0])

    def reduce(self, vectors: Vectors) -> Vectors:
        """Return the reduced vectors, whole numbers in [-127, 127], as float32, which FAISS takes."""
        if 0 < len(vectors) <= FEW:
            reduced = np.stack([inner_products(self.matrix, vector) for vector in np.ascontiguousarray(vectors)])
        else:
            reduced = vectors @ self.matrix.T
        reduced += self.offset
        np.rint(reduced, out=reduced)
        return np.clip(reduced, -LARGEST, LARGEST, out=reduced)

    def write(self, path: Path) -> None:
        write_array(path, np.column_stack([self.matrix, self.offset]))


def train_reduction(sample: Vectors, dim: int) -> Reduction:
    """Learn to reduce vectors like those of the sample (N, any dim) to `dim` dimensions, rounded up to 32 at a time.

    The same sample gives the same reduction on one machine.
    """
    rows, full = sample.shape
    dim = min(-(-dim // DIMS_AT_ONCE) * DIMS_AT_ONCE, -(-full // DIMS_AT_ONCE) * DIMS_AT_ONCE)
    kept = min(dim, full, rows)
    mean: Vectors = sample.mean(axis=0)
    axes = _principal_axes(sample - mean, kept)
    rotation = faiss.RandomRotationMatrix(kept, dim)
    rotation.init(_SEED)
    turn = faiss.vector_to_array(rotation.A).reshape(dim, kept)
    matrix = (turn @ axes).astype(np.float32)
    offset = -(matrix @ mean).astype(np.float32)
    reduced = np.abs(sample @ matrix.T + offset)
    scale = np.float32(LARGEST / max(float(np.quantile(reduced, 1 - CUT_SHARE)), 1e-12))
    return Reduction(np.ascontiguousarray(matrix * scale), offset * scale)


def read_reduction(path: Path) -> Reduction:
    """Read what `Reduction.write` wrote.

    Raises:
        IndexDamagedError: it is something else.
        OSError: it cannot be read.
    """
    try:
        both = np.load(path)
        return Reduction(np.ascontiguousarray(both[:, :-1], np.float32), np.ascontiguousarray(both[:, -1], np.float32))
    except (ValueError, TypeError, IndexError, EOFError) as error:
        raise IndexDamagedError(f"{path} is damaged ({error}): the next `imgrec ingest` builds it anew") from error


def _principal_axes(centred: Vectors, count: int) -> Vectors:
    """The `count` orthonormal directions of most variance, (count, dim).

    Of long vectors by randomized subspace iteration (Halko et al., https://arxiv.org/abs/0909.4061, algorithm 4.4): the
    eigenvectors of a matrix of 3,840 columns would take half a minute.
    """
    rows, dim = centred.shape
    tried = count + OVERSAMPLED
    if tried >= min(rows, dim) // 2:
        _, _, axes = np.linalg.svd(centred, full_matrices=False)
        return np.ascontiguousarray(axes[:count])
    basis = np.random.default_rng(_SEED).standard_normal((dim, tried), np.float32)
    for _ in range(POWER_ITERATIONS):
        basis, _ = np.linalg.qr(centred.T @ (centred @ basis))
    _, _, turned = np.linalg.svd(centred @ basis, full_matrices=False)
    return np.ascontiguousarray((turned[:count] @ basis.T).astype(np.float32))
