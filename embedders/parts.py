"""A part: what came out of a few images of a chunk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from storage.shards import Failure


@dataclass(frozen=True)
class Part:
    """`rows[modality]` has a row an image, in the order of `content_hashes`: (N, dim) vectors.

    Those of a learned embedder are what it prepared, (N, …), until ForwardStage has made vectors of them.
    """

    content_hashes: tuple[bytes, ...]
    rows: Mapping[str, NDArray[Any]]
    failures: tuple[Failure, ...]
    changed: tuple[str, ...]

    def described(self, modality: str) -> NDArray[np.bool_]:
        """Which images have a vector in this modality."""
        return np.asarray(np.isfinite(self.rows[modality]).all(axis=1))
