"""What every embedder is: a frozen description, and a function from images to unit vectors."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class EmbedderSpec:
    """Everything that changes an embedder's vectors.

    `version` grows when the code changes what it computes. `decode_min_side` is the JPEG draft limit its pixels come
    from. `licence` and `origin` speak of the weights, and do not enter the fingerprint.
    """

    name: str
    version: int
    dim: int
    decode_min_side: int
    parameters: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "MIT"
    origin: str = "computed, no weights"

    @property
    def fingerprint(self) -> str:
        """16 hex digits; vectors of different fingerprints never meet in one index."""
        facts = {key: value for key, value in asdict(self).items() if key not in ("licence", "origin")}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


class Embedder(ABC):
    """Turns images into vectors; see tests/embedders/contract.py for what is promised."""

    spec: EmbedderSpec

    @abstractmethod
    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        """Embed RGB uint8 images, each (H, W, 3), into (N, dim) float32 rows of L2 norm 1.

        A row does not depend on the rest of the batch, its order, or the number of threads. A picture that has nothing
        to say to this embedder gets a row of NaN.
        """
