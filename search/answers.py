"""What a search answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Hit(NamedTuple):
    """One image found. Scores are cosines in [-1, 1]; `scores` has one a modality, None where there is no vector.

    `path` is relative to the folder of photos, or begins with the name of its root, and is printable; `file` is
    absolute, and opens (surrogate-escaped, as `os.fsdecode` has it, where its name is not UTF-8). `root` is the folder
    of photos that it is in. Where copies are collapsed, `copies` counts the photos of its content, itself included.
    """

    rank: int
    id: int
    path: str
    score: float
    scores: Mapping[str, float | None]
    file: str
    root: str = ""
    copies: int | None = None


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first, and the milliseconds that each step took.

    `root` is the folder of photos, or None where there are several; `file` is the query's own, absolute, or None for a
    mixture.
    """

    query: str
    root: str | None
    file: str | None
    index: str
    version: str
    ef_search: int
    hits: tuple[Hit, ...]
    decode_ms: float
    embed_ms: float
    search_ms: float
