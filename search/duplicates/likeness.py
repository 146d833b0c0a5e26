"""How alike two photos are, and from when on they count as copies of one picture.

The thresholds were measured by `benchmarks.duplicates` (docs/duplicates.md has the tables), but for those of openclip
and dreamsim, whose weights were not at hand.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import QueryError
from imgrec.search.indexes.layout import Member

Masks = NDArray[np.uint16]
Scores = NDArray[np.float32]

THRESHOLDS = {"color": 0.985, "sift": 0.3, "efficientnet": 0.8, "openclip": 0.96, "dreamsim": 0.93}
# Where a model agrees with patterns or with another model, each may say it a little less clearly. Colours are no such
# witness: most drawings are black on white.
RELIEF = 0.05


class Likeness:
    """Judges pairs of photos of an index. A mask says which of the index's modalities a photo has: bit i the i-th.

    Only modalities that both photos have are compared: the score is the weighted mean of these cosines, and the
    threshold the weighted mean of their thresholds. So two plain pictures, in which sift finds nothing, have to agree
    in colour and model as clearly as these alone demand. `threshold` is that of photos that have all modalities;
    another one moves that of all others by as much.

    Raises:
        QueryError: no threshold is known for a modality, and none is given.
    """

    def __init__(self, members: Sequence[Member], threshold: float | None = None) -> None:
        unknown = [member.modality for member in members if member.modality not in THRESHOLDS]
        if unknown and threshold is None:
            raise QueryError(f"no threshold is known for {', '.join(unknown)}: give one with --threshold, as 0.9")
        every = range(1 << len(members))
        weights = np.array([sum(m.weight for m in _in(members, mask)) for mask in every])
        self._shares = np.maximum(weights / weights[-1], 1e-9).astype(np.float32)
        known = [_threshold(_in(members, mask)) for mask in every]
        moved = 0.0 if threshold is None else threshold - known[-1]
        # Nothing is near where nothing is shared; and nothing is as near as itself.
        self._thresholds = np.array([2.0, *(min(one + moved, 0.9999) for one in known[1:])], np.float32)
        self.threshold = float(known[-1] + moved)

    def judge(
        self, products: Any, first: Masks, second: Masks, margin: float = 0.0
    ) -> tuple[Scores, NDArray[np.bool_]]:
        """Return scores and which of them are near, from inner products of an index's rows and both sides' masks.

        `margin` takes so much off the thresholds. All arguments broadcast.
        """
        shared = first & second
        scores = np.asarray(products / self._shares[shared], np.float32)
        return scores, scores >= self._thresholds[shared] - np.float32(margin)


def _in(members: Sequence[Member], mask: int) -> list[Member]:
    return [member for place, member in enumerate(members) if mask >> place & 1]


def _threshold(members: Sequence[Member]) -> float:
    if not members:
        return 2.0
    total = sum(member.weight for member in members)
    mean = sum(member.weight * THRESHOLDS.get(member.modality, 0.9) for member in members) / total
    witnesses = sum(member.modality != "color" for member in members)
    return mean - RELIEF if witnesses > 1 else mean
