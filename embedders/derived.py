"""Embedders whose input is another modality's vectors: a picture goes through the source first."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from imgrec.embedders.base import Embedder, LearnedEmbedder, Pixels, Prepared, TextEmbedder, Vectors
from imgrec.embedders.machine import Machine


class DerivedEmbedder(LearnedEmbedder):
    """Makes vectors of the vectors of `source`, whose fingerprint its own spec's parameters hold (`source`).

    An ingest computes them from shards to shards, by `derive` alone: no picture is decoded for them. A picture that is
    searched for goes through the source and then through `derive`; words do where the source reads them.
    """

    source: Embedder

    def __init__(self, source: Embedder) -> None:
        self.source = source
        if isinstance(source, TextEmbedder):  # by an attribute, which is what isinstance looks for
            self.embed_texts = self._embed_texts

    @abstractmethod
    def derive(self, vectors: Vectors) -> Vectors:
        """Make (N, dim) float32 rows of L2 norm 1 of the source's rows (N, source dim)."""

    @property
    def no_vector(self) -> tuple[str, str]:
        return self.source.no_vector

    def libraries(self, device: str) -> tuple[str, ...]:
        return self.source.libraries(device) if isinstance(self.source, LearnedEmbedder) else ()

    def load(self, machine: Machine) -> None:
        if isinstance(self.source, LearnedEmbedder):
            self.source.load(machine)

    def prepare(self, pixels: Pixels) -> Prepared:
        return self.source.prepare(pixels)

    def send(self, batch: Prepared) -> Any:
        return self.source.send(batch) if isinstance(self.source, LearnedEmbedder) else batch

    def forward(self, batch: Any) -> Vectors:
        rows = self.source.forward(batch) if isinstance(self.source, LearnedEmbedder) else np.asarray(batch)
        return self._derive_known(rows)

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        return self._derive_known(self.source.embed(batch))

    def _embed_texts(self, texts: Sequence[str], machine: Machine) -> Vectors:
        assert isinstance(self.source, TextEmbedder)
        return self.derive(self.source.embed_texts(texts, machine))

    def _derive_known(self, rows: Vectors) -> Vectors:
        """Rows of NaN, of which the source has nothing to say, stay such."""
        derived = np.full((len(rows), self.spec.dim), np.nan, np.float32)
        known = np.isfinite(rows).all(axis=1)
        if known.any():
            derived[known] = self.derive(rows[known])
        return derived
