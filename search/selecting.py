"""Which of the photos that are found are hits: not the query's own, and copies of one photo once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imgrec.search.indexes.allowed import Allowed
from imgrec.search.indexes.hits import NO_ID
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.registry.registry import Registry


@dataclass(frozen=True)
class Selection:
    """What may be a hit: what a filter `allowed`; None allows all.

    With `not_itself`, the query's own photo is none: the one of its id, or of a file those of its content. With
    `collapse_copies`, photos of equal content are one hit, that of the lowest id, and all of them are the query's own.
    """

    not_itself: bool = False
    collapse_copies: bool = False
    allowed: Allowed | None = None

    @property
    def picks(self) -> bool:
        """Whether something of what is found may be no hit."""
        return self.not_itself or self.collapse_copies


# From vectors (N, dim) and k to scores and image ids, (N, k), best first.
Find = Callable[[Vectors, int], tuple[Vectors, Ids]]


class Picked(NamedTuple):
    """One image: its score, and where copies are collapsed how many photos of its content there are."""

    id: int
    score: float
    copies: int | None = None


@dataclass(frozen=True)
class Picker:
    """Searches until there are `top_k` hits, or no more photos."""

    find: Find
    registry: Registry
    top_k: int
    selection: Selection

    def pick(self, vectors: Vectors, own: Sequence[Collection[int]]) -> list[list[Picked]]:
        """Return the hits of each row of `vectors`, best first; `own` has the images that are none, a row each."""
        picked: list[list[Picked]] = [[] for _ in vectors]
        rows = np.arange(len(vectors))
        asked = self.top_k + max(map(len, own), default=0)
        while len(rows):
            scores, ids = self.find(vectors[rows], asked)
            contents = self._contents(ids) if self.selection.collapse_copies else {}
            for row, found_ids, found in zip(rows.tolist(), ids.tolist(), scores.tolist(), strict=True):
                picked[row] = self._pick(found_ids, found, own[row], contents)
            short = np.array([len(picked[row]) < self.top_k for row in rows.tolist()], bool)
            rows = rows[short & (ids[:, -1] != NO_ID)]  # a row that ends early has no more
            asked *= 2
        return self._counted(picked, own) if self.selection.collapse_copies else picked

    def _contents(self, ids: Ids) -> dict[int, bytes]:
        return self.registry.content_hashes(np.unique(ids).tolist())

    def _pick(
        self, ids: Sequence[int], scores: Sequence[float], own: Collection[int], contents: Mapping[int, bytes]
    ) -> list[Picked]:
        hits: dict[object, Picked] = {}
        for image_id, score in zip(ids, scores, strict=True):
            if image_id != NO_ID and image_id not in own:
                hits.setdefault(contents.get(image_id, image_id), Picked(image_id, score))
            if len(hits) == self.top_k:
                break
        return list(hits.values())

    def _counted(self, picked: list[list[Picked]], own: Sequence[Collection[int]]) -> list[list[Picked]]:
        """Let the lowest id that may be a hit stand for all of its content."""
        contents = self.registry.content_hashes(list({hit.id for hits in picked for hit in hits}))
        copies = defaultdict(list)
        for content, image_id in self.registry.live_ids_of(list(set(contents.values()))):
            if self.selection.allowed is None or self.selection.allowed.contains(np.array([image_id]))[0]:
                copies[content].append(image_id)

        def count(hit: Picked, left_out: Collection[int]) -> Picked:
            of_content = [image_id for image_id in copies[contents[hit.id]] if image_id not in left_out]
            return Picked(min(of_content, default=hit.id), hit.score, max(1, len(of_content)))

        return [[count(hit, left_out) for hit in hits] for hits, left_out in zip(picked, own, strict=True)]
