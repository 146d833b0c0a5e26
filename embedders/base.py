"""What every embedder is: a frozen description, and a function from images to unit vectors."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.extras import check_learned
from imgrec.embedders.machine import Machine
from imgrec.storage.photos.profiles import IGNORED
from imgrec.storage.shards import NO_FEATURES, NOT_FINITE

Pixels = NDArray[np.uint8]
Prepared = NDArray[Any]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbedderSpec:
    """Everything that changes an embedder's vectors.

    `version` grows when the code changes what it computes. `decode_min_side` is the JPEG draft limit its pixels come
    from, `icc_profiles` what became of their colour profiles, which whoever creates an embedder from a library's
    settings fills in. `licence` and `origin` speak of the weights, and do not enter the fingerprint.
    """

    name: str
    version: int
    dim: int
    decode_min_side: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "MIT"
    origin: str = "computed, no weights"
    icc_profiles: str = IGNORED

    @property
    def fingerprint(self) -> str:
        """16 hex digits; vectors of different fingerprints never meet in one index."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("licence", "origin")}
        if self.icc_profiles == IGNORED:  # as before there was a choice
            del facts["icc_profiles"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def are_vectors(rows: Vectors) -> NDArray[np.bool_]:
    """Which of the rows (N, dim) say something: not NaN, and not the zeros that are left of what is too long."""
    return np.asarray(np.isfinite(rows).all(axis=1) & rows.any(axis=1))


class Embedder(ABC):
    """Turns images into vectors; see tests/embedders/contract.py for what is promised."""

    spec: EmbedderSpec

    @property
    def no_vector(self) -> tuple[str, str]:
        """Status and reason of an image whose row is NaN."""
        return NO_FEATURES, f"{self.spec.name} finds nothing to describe"

    @abstractmethod
    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        """Embed RGB uint8 images, each (H, W, 3), into (N, dim) float32 rows of L2 norm 1.

        A row does not depend on the rest of the batch, its order, or the number of threads, of which several may call
        this at once. A picture that has nothing to say to this embedder gets a row of NaN.
        """

    def prepare(self, pixels: Pixels) -> Prepared:
        """Do what a worker process does for one image (H, W, 3) right after decoding: here, all of it."""
        row: Vectors = self.embed([pixels])[0]
        return row


@runtime_checkable
class TextEmbedder(Protocol):
    """What an embedder has beside whose vectors those of words are comparable to."""

    def embed_texts(self, texts: Sequence[str], machine: Machine) -> Vectors:
        """Embed N > 0 texts into (N, dim) float32 rows of L2 norm 1."""


class LearnedEmbedder(Embedder):
    """An embedder of two halves.

    `prepare` runs in the worker processes and knows no torch. `send` and `forward` run where the model is, in the
    process that embeds a chunk, on the batches that embedders/work/forward.py makes of what was prepared; never two
    `forward` at a time, but `send` beside one. embedders/devices.py helps with both.
    """

    @property
    def no_vector(self) -> tuple[str, str]:
        return NOT_FINITE, f"{self.spec.name} makes numbers of this picture that are not finite"

    def libraries(self, device: str) -> tuple[str, ...]:
        """The libraries of the extra [learned] that it imports on the device of this name: here, none."""
        return ()

    def check_libraries(self, device: str) -> None:
        """Look whether they are installed.

        Raises:
            MissingExtraError: one is not; the message names the command that installs it.
        """
        who = self.spec.name if device == "auto" else f"{self.spec.name} on {device}"
        check_learned(who, self.libraries(device))

    @abstractmethod
    def load(self, machine: Machine) -> None:
        """Load the weights onto the device, which takes seconds; loaded ones stay, once for the whole process.

        Raises:
            MissingExtraError: a library that it needs is not installed.
            DeviceError: the device asked for is not there.
            ModelFileError: they are missing, damaged, or not those that the fingerprint names.
        """

    @abstractmethod
    def prepare(self, pixels: Pixels) -> Prepared:
        """Make the model's input of one image (H, W, 3): of one shape and dtype for all images."""

    def send(self, batch: Prepared) -> Any:
        """Bring N > 0 prepared images, stacked, to the device: here, leave them where they are."""
        return batch

    @abstractmethod
    def forward(self, batch: Any) -> Vectors:
        """Embed what `send` returned into (N, dim) float32 rows of L2 norm 1. `load` comes first."""

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        if not batch:
            return np.empty((0, self.spec.dim), np.float32)
        return self.forward(self.send(np.stack([self.prepare(pixels) for pixels in batch])))
