"""What a query may be mixed of: words and pictures, each with a sign and a weight."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgrec.search.errors import QueryError
from imgrec.search.indexes.vectors import Vectors
from imgrec.storage.photos.paths import printable

_WEIGHTED = re.compile(r"(\d+(?:\.\d+)?|\.\d+):(.+)", re.DOTALL)
_ID = re.compile(r"id:\d+")
# Below this what is left of a mixture is rounding.
_NOTHING = 1e-4


@dataclass(frozen=True)
class Term:
    """Words, or a picture: the path of an image file, or `id:N` of the library. A negative weight takes it away."""

    value: str
    weight: float = 1.0
    is_text: bool = True

    def __post_init__(self) -> None:
        if not self.value.strip():
            raise QueryError("a query says nothing: give words, a path, or id:N")
        if not math.isfinite(self.weight) or self.weight == 0:
            raise QueryError(f"query {printable(self.value)}: {self.weight} is no weight; give a number other than 0")

    def __str__(self) -> str:
        what = f'"{self.value}"' if self.is_text else self.value
        size = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} × "
        return f"{'−' if self.weight < 0 else '+'} {size}{what}"


def parse_terms(texts: Iterable[str] = (), images: Iterable[str] = (), minus: Iterable[str] = ()) -> list[Term]:
    """Read terms as the command line has them: `2:red car` weighs twice.

    What is taken away (`minus`) is a picture where it is `id:N` or the path of a file, and words otherwise.

    Raises:
        QueryError: a term says nothing, or weighs nothing.
    """
    terms = [Term(value, weight) for weight, value in map(_split, texts)]
    terms += [Term(value, weight, is_text=False) for weight, value in map(_split, images)]
    return terms + [Term(value, -weight, is_text=not _is_picture(value)) for weight, value in map(_split, minus)]


def describe_terms(terms: Sequence[Term]) -> str:
    """Say in one line what was mixed, with signs and weights; the first plus goes without saying."""
    return " ".join(map(str, terms)).removeprefix("+ ")


def mix(terms: Sequence[Term], vectors: Sequence[Mapping[str, Vectors]], modality: str) -> Vectors | None:
    """Return the weighted sum of the terms' unit vectors of a modality, of length 1: what is left of them.

    A term without such a vector adds nothing; None where no term has one.

    Raises:
        QueryError: the terms cancel each other out.
    """
    known = [(term.weight, found[modality]) for term, found in zip(terms, vectors, strict=True) if modality in found]
    if not known:
        return None
    total = np.sum([weight * vector.astype(np.float64) for weight, vector in known], axis=0)
    length = np.linalg.norm(total)
    if length <= _NOTHING * sum(abs(weight) for weight, _ in known):
        raise QueryError(f"query {describe_terms(terms)}: nothing is left of it")
    return np.asarray(total / length, np.float32)


def _split(text: str) -> tuple[float, str]:
    if matched := _WEIGHTED.fullmatch(text):
        return float(matched[1]), matched[2]
    return 1.0, text


def _is_picture(value: str) -> bool:
    try:
        return bool(_ID.fullmatch(value)) or Path(value).expanduser().is_file()
    except (OSError, RuntimeError, ValueError):  # no path at all, or too long for one
        return False
