"""What SIFT-VLAD learnt from photos: a local PCA and a codebook, in a file without pickles."""

import hashlib
import io
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.models.archives import check_unpacked_size
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.machine.bounded import read_small

DEFAULT = "default"


@dataclass(frozen=True, eq=False)
class SiftCodebook:
    """Learnt arrays, all float32.

    `mean` (128,) and `axes` (128, local_dim) turn RootSIFT descriptors into local ones; `centroids` (words, local_dim)
    is the codebook. words · local_dim is a power of two.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    centroids: NDArray[np.float32]

    @property
    def digest(self) -> str:
        """16 hex digits over the arrays, which name the codebook and enter the fingerprint."""
        digest = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            digest.update(f"{field.name}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array, "<f4").data)
        return digest.hexdigest()[:16]

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **{field.name: getattr(self, field.name) for field in fields(self)})
        write_atomic(path, buffer.getvalue())


def codebook_path(models_dir: Path, name: str) -> Path:
    return models_dir / f"sift-{name}.npz"


@cache
def load_codebook(name: str, models_dir: Path | None) -> SiftCodebook:
    """Load the packaged codebook `default`, or a library's own by its digest.

    Raises:
        ModelFileError: the file is missing, damaged, or not the codebook of that name.
    """
    if name == DEFAULT:
        return _parse((files("imgrec.embedders") / "data" / "sift-default.npz").read_bytes(), "the packaged codebook")
    if models_dir is None:
        raise ModelFileError(f"the codebook {name} of SIFT belongs to a library, and none is given")
    return read_codebook(codebook_path(models_dir, name), name)


def read_codebook(path: Path, name: str) -> SiftCodebook:
    """Read the codebook of this digest from a file.

    Raises:
        ModelFileError: the file is missing, damaged, or not the codebook of that name.
    """
    try:
        codebook = _parse(read_small(path), str(path))
    except FileNotFoundError:
        raise ModelFileError(f"{path} is missing: restore it from a backup, or run `imgrec train sift`") from None
    if codebook.digest != name:
        raise ModelFileError(f"{path} is damaged (it holds codebook {codebook.digest}): restore it from a backup")
    return codebook


def _parse(data: bytes, what: str) -> SiftCodebook:
    try:
        check_unpacked_size(io.BytesIO(data), what)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return SiftCodebook(**{field.name: arrays[field.name].astype(np.float32) for field in fields(SiftCodebook)})
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{what} is damaged ({error}): restore it from a backup") from error
