"""A part: what came out of a few images of a chunk."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.base import are_vectors
from imgrec.storage.shards import Failure


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
        return are_vectors(self.rows[modality])

    def count_described(self) -> int:
        """How many images have a vector in one modality or more."""
        return int(np.logical_or.reduce([self.described(modality) for modality in self.rows]).sum())
