"""Ways to make vectors shorter, side by side: what is left of the neighbours at so many bytes a vector.

Beside the methods of compressed modalities, whose rows are float32 or a byte a number, stand FAISS's codes, which an
index can have and a modality cannot: product quantisation, plain and rotated (https://doi.org/10.1109/TPAMI.2013.240),
scalar quantisation, and RaBitQ (https://arxiv.org/abs/2405.12497).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.arithmetic import one_thread
from imgrec.embedders.compression.encoder import Encoder
from imgrec.embedders.compression.methods import fit
from imgrec.search.evaluation.compression import K, neighbours, recall_at_10, share_kept

Vectors = NDArray[np.float32]

# What FAISS's codes are trained with; more changes little and takes minutes.
TRAINED_WITH = 10_000
# Training the rotation takes the cube of the dimensions, which are four times these.
LARGEST_OPQ = 64


@dataclass(frozen=True)
class MethodQuality:
    """One method at one size: `recall` is the share of the ten nearest that are so among the shorter vectors too."""

    method: str
    bytes_per_vector: int
    recall: float


def compare_methods(
    learnt: Vectors, held_out: Vectors, dims: Sequence[int], encoders: Mapping[str, Encoder]
) -> Iterator[MethodQuality]:
    """Yield every method at the sizes of `dims` dimensions, and the library's own encoders by name.

    They are `learnt` from one part of the vectors and judged by the other, unit rows (N, dim) float32 both.
    """
    known = neighbours(held_out, k=min(K, len(held_out) - 1))
    learnt = np.asarray(learnt[:: max(1, len(learnt) // 50_000)], np.float32)
    for name, encoder in encoders.items():
        yield from _encoded(name, encoder, held_out, known)
    for dim in dims:
        if dim >= min(learnt.shape):
            continue
        for method in ("pca", "rp"):
            yield from _encoded(method, fit(method, learnt, dim, {}), held_out, known)
        if held_out.shape[1] % dim == 0:
            yield _coded("faiss pq", faiss.IndexPQ(held_out.shape[1], dim, 8), dim, learnt, held_out, known)
        if dim <= LARGEST_OPQ:
            yield _coded("faiss opq", _rotated(learnt.shape, dim), dim, learnt, held_out, known)
    full = held_out.shape[1]
    for method, factory, size in (
        ("faiss sq8", "SQ8", full), ("faiss sq4", "SQ4", full // 2), ("faiss rabitq", "RaBitQ", full // 8 + 8),
    ):  # fmt: skip
        index = faiss.index_factory(full, factory, faiss.METRIC_L2)
        yield _coded(method, index, size, learnt, held_out, known)


def _encoded(name: str, encoder: Encoder, held_out: Vectors, known: NDArray[np.intp]) -> Iterator[MethodQuality]:
    """As float32, and as a byte a number."""
    rows = encoder.encode(held_out)
    yield MethodQuality(name, 4 * encoder.dim, recall_at_10(held_out, rows, known=known))
    step = np.float32(np.abs(rows).max() / 127)
    yield MethodQuality(f"{name}, bytes", encoder.dim, recall_at_10(held_out, np.rint(rows / step) * step, known=known))


def _rotated(shape: tuple[int, ...], dim: int) -> faiss.Index:
    """OPQ of the principal components: a rotation of all 1,280 dimensions would take ten minutes to learn."""
    kept = min(4 * dim, *shape) // dim * dim
    rotation = faiss.OPQMatrix(kept, dim)
    rotation.niter, rotation.niter_pq = 10, 2
    codes = faiss.IndexPreTransform(rotation, faiss.IndexPQ(kept, dim, 8))
    return faiss.IndexPreTransform(faiss.PCAMatrix(shape[1], kept), codes)


def _coded(
    method: str, index: faiss.Index, size: int, learnt: Vectors, held_out: Vectors, known: NDArray[np.intp]
) -> MethodQuality:
    """Rank by FAISS's own distances from a whole query to the codes."""
    with one_thread():  # k-means of so little would have its threads wait for each other
        index.train(learnt[:TRAINED_WITH])
    index.add(held_out)
    k = known.shape[1]
    _, found = index.search(held_out, k + 1)
    itself = np.arange(len(held_out))
    others = np.stack([row[row != place][:k] for place, row in zip(itself, found, strict=True)])
    return MethodQuality(method, size, share_kept(held_out, itself, known, others))
