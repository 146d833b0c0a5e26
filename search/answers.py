"""What a search answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Hit(NamedTuple):
    """One image found. Scores are cosines in [-1, 1]; `scores` has one a modality, None where there is no vector."""

    rank: int
    id: int
    path: str
    score: float
    scores: Mapping[str, float | None]
    file: str


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first, and the milliseconds that each step took."""

    query: str
    index: str
    version: str
    ef_search: int
    hits: tuple[Hit, ...]
    decode_ms: float
    embed_ms: float
    search_ms: float
