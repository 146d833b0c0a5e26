"""What needs no gradient: principal components and random projection."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.compression.encoder import Encoder
from imgrec.embedders.errors import EmbedderParameterError

Vectors = NDArray[np.float32]
_ROWS_AT_ONCE = 8_192


def fit_pca(rows: Vectors, dim: int, facts: Mapping[str, Any]) -> Encoder:
    """Keep the `dim` directions in which rows (N, source dim) are largest (https://doi.org/10.1080/14786440109462720).

    Rows are not centred: their inner products are what is to be kept, and words, which lie elsewhere than pictures,
    are compared with them. (Eckart and Young 1936, https://doi.org/10.1007/BF02288367: no other `dim` directions keep
    the products better in sum.) `rows` may be mapped; a part of them is in memory at a time.
    """
    _check_dim(rows, dim)
    moments = np.zeros((rows.shape[1], rows.shape[1]))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = np.asarray(rows[start : start + _ROWS_AT_ONCE], np.float32)
        moments += part.T @ part
    _, axes = np.linalg.eigh(moments)
    return linear_encoder(axes[:, ::-1][:, :dim].T, {**facts, "method": "pca"})


def fit_random_projection(rows: Vectors, dim: int, facts: Mapping[str, Any], seed: int = 0) -> Encoder:
    """Take `dim` random orthogonal directions, which learn nothing (https://doi.org/10.1090/conm/026/737400)."""
    _check_dim(rows, dim)
    normal = np.random.default_rng(seed).standard_normal((rows.shape[1], dim))
    axes, _ = np.linalg.qr(normal)
    return linear_encoder(axes.T, {**facts, "method": "rp", "seed": seed})


def linear_encoder(matrix: NDArray[np.floating], facts: Mapping[str, Any]) -> Encoder:
    linear = np.ascontiguousarray(matrix, np.float32)
    return Encoder(linear, np.zeros(len(linear), np.float32), (), "relu", facts)


def _check_dim(rows: Vectors, dim: int) -> None:
    if not 1 <= dim <= rows.shape[1]:
        raise EmbedderParameterError(f"{dim} dimensions: vectors of {rows.shape[1]} can be made of 1 to as many")
