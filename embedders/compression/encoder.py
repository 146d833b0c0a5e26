"""An encoder: what a method of compression learnt, as a few matrices that numpy applies anywhere.

Every method ends in one of these: PCA and random projection have `linear` alone, an autoencoder has the layers of its
encoder beside it. So whoever searches needs no torch, and one file format holds them all.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.errors import ModelFileError
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.machine.bounded import read_small

Vectors = NDArray[np.float32]

FORMAT = "imgrec-encoder-1"
ACTIVATIONS = ("relu", "tanh", "silu")
_ROWS_AT_ONCE = 4_096
_EPSILON = 1e-12


@dataclass(frozen=True, eq=False)
class Encoder:
    """Maps vectors (N, dim) to unit vectors (N, reduced dim): `linear` @ x + `bias`, plus what the layers add to it.

    `linear` is (reduced dim, dim); `layers` are pairs of a matrix (out, in) and a bias (out,), with `activation` after
    each but the last. `facts` say what it was learnt from and how; all of them, and the numbers, make its digest.
    """

    linear: Vectors
    bias: Vectors
    layers: tuple[tuple[Vectors, Vectors], ...]
    activation: str
    facts: Mapping[str, Any]

    @property
    def dim(self) -> int:
        return int(self.linear.shape[0])

    @property
    def source_dim(self) -> int:
        return int(self.linear.shape[1])

    @property
    def digest(self) -> str:
        """16 hex digits over everything that changes a vector and where it comes from."""
        digest = hashlib.sha256(json.dumps([FORMAT, self.activation, dict(self.facts)], sort_keys=True).encode())
        for name, array in sorted(self._arrays().items()):
            digest.update(f"{name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
        return digest.hexdigest()[:16]

    def encode(self, vectors: Vectors) -> Vectors:
        """Return unit rows (N, reduced dim) float32. A row does not depend on the others, to rounding."""
        parts = [
            self._encode(np.asarray(vectors[start : start + _ROWS_AT_ONCE], np.float32))
            for start in range(0, len(vectors), _ROWS_AT_ONCE)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def save(self, models_dir: Path) -> Path:
        """Write it under its digest."""
        from safetensors.numpy import save

        facts = {"format": FORMAT, "activation": self.activation, "facts": json.dumps(dict(self.facts))}
        path = encoder_path(models_dir, self.digest)
        write_atomic(path, save(self._arrays(), facts))
        return path

    def _encode(self, rows: Vectors) -> Vectors:
        encoded = rows @ self.linear.T + self.bias
        if self.layers:
            hidden = rows
            for number, (matrix, bias) in enumerate(self.layers):
                hidden = hidden @ matrix.T + bias
                if number < len(self.layers) - 1:
                    hidden = _activate(self.activation, hidden)
            encoded += hidden
        unit: Vectors = encoded / np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), _EPSILON)
        return unit

    def _arrays(self) -> dict[str, Vectors]:
        arrays = {"linear": self.linear, "bias": self.bias}
        for number, (matrix, bias) in enumerate(self.layers):
            arrays |= {f"layer{number:02d}.matrix": matrix, f"layer{number:02d}.bias": bias}
        return {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}


def encoder_path(models_dir: Path, digest: str) -> Path:
    return models_dir / f"encoder-{digest}.safetensors"


@cache
def load_encoder(models_dir: Path, digest: str) -> Encoder:
    """`read_encoder`, once for the whole process."""
    return read_encoder(models_dir, digest)


def read_encoder(models_dir: Path, digest: str) -> Encoder:
    """Read the encoder of this digest.

    Raises:
        ModelFileError: its file is missing, damaged, or another encoder's.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = encoder_path(models_dir, digest)
    try:
        data = read_small(path)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        arrays = load(data)
        count = (len(arrays) - 2) // 2
        encoder = Encoder(
            arrays["linear"],
            arrays["bias"],
            tuple((arrays[f"layer{n:02d}.matrix"], arrays[f"layer{n:02d}.bias"]) for n in range(count)),
            header["activation"],
            json.loads(header["facts"]),
        )
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: restore it from a backup, or `imgrec compress drop`") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}): restore it from a backup") from error
    if encoder.digest != digest:
        raise ModelFileError(f"{path} is damaged (it holds encoder {encoder.digest}): restore it from a backup")
    return encoder


def _activate(name: str, values: Vectors) -> Vectors:
    if name == "relu":
        return np.maximum(values, 0)
    if name == "tanh":
        return np.tanh(values)
    silu: Vectors = values / (1 + np.exp(-np.clip(values, -80, 80)))
    return silu
