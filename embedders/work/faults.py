"""Whose fault an embedder's error is: one picture's, which gets no vector there, or everybody's, which ends the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from imgrec.embedders.base import Embedder, LearnedEmbedder, Pixels, Prepared
from imgrec.embedders.errors import EmbedderFailsError
from imgrec.storage.errors import ImgrecError
from imgrec.storage.machine.os_errors import explain
from imgrec.storage.photos.decoding import printable_line
from imgrec.storage.shards import EMBEDDER_FAILED, NOT_FINITE

T = TypeVar("T")

_SIDE = 256


class Refused(NamedTuple):
    """Why a picture has no vector in one modality."""

    status: str
    reason: str


def plain_picture() -> Pixels:
    """A picture that no embedder has a reason to fail on: 256 × 256 pixels, in which red and green grow."""
    ramp = np.arange(_SIDE, dtype=np.uint8)
    return np.dstack(np.broadcast_arrays(ramp[:, None], ramp[None, :], np.uint8(128)))


def is_machines(error: Exception) -> bool:
    """Whether it is the machine that fails, so that no picture is to be blamed."""
    return explain(error, Path()) is not None


def attempt(
    embedder: Embedder, make: Callable[[T], Prepared], picture: T, plain: Callable[[], T]
) -> Prepared | Refused:
    """Return `make(picture)`, or how it fails twice while the `plain` picture goes through.

    Raises:
        EmbedderFailsError: it fails on the plain one as well.
        ImgrecError, OSError, MemoryError: so it does, for a reason that has its own words; or the machine fails.
    """
    try:
        return make(picture)
    except Exception as error:
        if is_machines(error):
            raise
        _try_plain(embedder, make, plain)
    try:
        return make(picture)
    except Exception as error:
        if is_machines(error):
            raise
        return Refused(EMBEDDER_FAILED, f"{embedder.spec.name} fails on this picture: {_in_words(error)}")


def prepare(embedder: Embedder, expected: "Like | None", pixels: Pixels) -> Prepared | Refused:
    """Do a worker's part for one picture; `expected` is what a learned embedder prepares of any (`prepared_like`)."""

    def make(picture: Pixels) -> Prepared:
        made = embedder.prepare(picture)
        if expected is None:
            row: Prepared = check_rows(embedder, np.asarray(made)[np.newaxis], 1)[0]
            return row
        if (got := Like.of(made)) != expected:
            raise ValueError(f"it prepares {got} instead of {expected}")
        return made

    found = attempt(embedder, make, pixels, plain_picture)
    if expected is not None or isinstance(found, Refused) or np.isfinite(found).all() or np.isnan(found).all():
        return found
    return Refused(NOT_FINITE, f"{embedder.spec.name} makes numbers of this picture that are not finite")


class Like(NamedTuple):
    """Shape and dtype, which all pictures that a learned embedder prepares have in common."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, prepared: Prepared) -> "Like":
        return cls(np.shape(prepared), np.asarray(prepared).dtype)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def prepared_like(embedder: Embedder) -> Like | None:
    """What a learned embedder prepares of any picture; None for others, which make vectors at once.

    Raises:
        EmbedderFailsError, ImgrecError, OSError, MemoryError: as `attempt` does.
    """
    if not isinstance(embedder, LearnedEmbedder):
        return None
    return Like.of(_try_plain(embedder, embedder.prepare, plain_picture))


def check_rows(embedder: Embedder, rows: Prepared, count: int) -> Prepared:
    """Return what an embedder made of `count` pictures as float32 rows.

    Raises:
        ValueError: they are no rows of floats, or not so many, or of another dim.
    """
    rows = np.asarray(rows)
    if rows.shape != (count, embedder.spec.dim) or rows.dtype.kind != "f":
        got = Like.of(rows)
        raise ValueError(f"it makes {got} instead of {Like((count, embedder.spec.dim), np.dtype(np.float32))}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told as such
        return rows.astype(np.float32, copy=False)


def _try_plain(embedder: Embedder, make: Callable[[T], Prepared], plain: Callable[[], T]) -> Prepared:
    try:
        return make(plain())
    except Exception as error:
        if isinstance(error, ImgrecError | OSError | MemoryError):
            raise
        raise EmbedderFailsError(
            f"{embedder.spec.name} fails on every picture ({_in_words(error)}): install what it is from anew, or give "
            "another --modality (`imgrec --verbose …` shows where it fails)"
        ) from error


def _in_words(error: Exception) -> str:
    text = printable_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
