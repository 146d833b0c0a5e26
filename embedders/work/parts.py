"""A part: what came out of a few images of a chunk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.base import Embedder, Prepared, are_vectors
from imgrec.embedders.work.faults import Refused
from imgrec.storage.shards import Failure


@dataclass(frozen=True)
class Part:
    """`rows[modality]` has a row an image, in the order of `content_hashes`: (N, dim) vectors.

    Those of a learned embedder are what it prepared, (N, …), until ForwardStage has made vectors of them. An image in
    `refused[modality]` has no row there. `thumbnails` are by content hash, where they were asked for.
    """

    content_hashes: tuple[bytes, ...]
    rows: Mapping[str, NDArray[Any]]
    failures: tuple[Failure, ...]
    changed: tuple[str, ...]
    refused: Mapping[str, Mapping[bytes, Refused]] = field(default_factory=dict)
    thumbnails: Mapping[bytes, bytes] = field(default_factory=dict)

    def taken(self, modality: str) -> list[bytes]:
        """The images that have a row in this modality, in the order of its rows."""
        refused = self.refused.get(modality, {})
        return [content_hash for content_hash in self.content_hashes if content_hash not in refused]

    def with_rows(self, embedder: Embedder, outcomes: Sequence[Prepared | Refused]) -> Self:
        """Return this part with a row, or why there is none, for each of the images that had a row."""
        modality = embedder.spec.name
        taken = self.taken(modality)
        rows = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
        new = {image: outcome for image, outcome in zip(taken, outcomes, strict=True) if isinstance(outcome, Refused)}
        return replace(
            self,
            rows={**self.rows, modality: np.stack(rows) if rows else np.empty((0, embedder.spec.dim), np.float32)},
            refused={**self.refused, modality: {**self.refused.get(modality, {}), **new}},
        )

    def described(self, modality: str) -> NDArray[np.bool_]:
        """Which rows of this modality are vectors."""
        return are_vectors(self.rows[modality])

    def vectors(self, modality: str) -> list[bytes]:
        """The images that have a vector in this modality."""
        return [image for image, found in zip(self.taken(modality), self.described(modality), strict=True) if found]

    def without_vector(self, embedder: Embedder) -> list[Failure]:
        """The images that have none, and why."""
        modality = embedder.spec.name
        has_one = set(self.vectors(modality))
        why = self.refused.get(modality, {})
        return [
            Failure(image, *why.get(image, embedder.no_vector)) for image in self.content_hashes if image not in has_one
        ]
