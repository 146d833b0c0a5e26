"""Which weights serve the user's own labels or copies best, and whether that is more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.weightings import Weighting

RESAMPLES = 2_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Two means over the same photos, and the 95 % interval (bootstrap over photos) of second minus first."""

    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.second - self.first

    @property
    def is_real(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Suggestion:
    """The best weights of a grid on one half of the photos, and how they do on the other half beside the present ones.

    `by_measure` has `map` and `copies`, whichever was measured; `overall` is of their mean, which was maximised.
    """

    present: Weighting
    suggested: Weighting
    tried: int
    chosen_on: int
    judged_on: int
    overall: Difference
    by_measure: Mapping[str, Difference]


def suggest(
    present: Weighting, tried: Sequence[Weighting], measures: Mapping[str, Mapping[str, Floats]], seed: int
) -> Suggestion:
    """Choose weights on half of the photos, judge them on the rest.

    Args:
        present: what is compared with.
        tried: the weightings to choose from.
        measures: by measure and weighting, a value a photo (NaN does not count); `present` is among them.
        seed: of the halves and the bootstrap.
    """
    random = np.random.default_rng(seed)
    halves = {}
    for measure, values in measures.items():
        order = random.permutation(len(values[present.name]))
        halves[measure] = order[: len(order) // 2], order[len(order) // 2 :]

    def worth(each: Weighting) -> float:
        return float(np.mean([values[each.name][halves[name][0]].mean() for name, values in measures.items()]))

    best = max(tried, key=worth)
    if worth(best) <= worth(present):
        best = present
    pairs = {
        name: np.stack([values[each.name][halves[name][1]] for each in (present, best)], axis=1)
        for name, values in measures.items()
    }
    means = {name: _resampled(pair, random) for name, pair in pairs.items()}
    return Suggestion(
        present=present,
        suggested=best,
        tried=len(tried),
        chosen_on=sum(len(chosen) for chosen, _ in halves.values()),
        judged_on=sum(len(judged) for _, judged in halves.values()),
        overall=_difference(np.mean([pair.mean(axis=0) for pair in pairs.values()], axis=0), _mean(means.values())),
        by_measure={name: _difference(pairs[name].mean(axis=0), means[name]) for name in pairs},
    )


def interval(values: Floats, seed: int) -> tuple[float, float]:
    """The 95 % interval of a mean over photos, by bootstrap."""
    means = _resampled(values[:, None], np.random.default_rng(seed))[:, 0]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def _resampled(values: Floats, random: np.random.Generator) -> Floats:
    """Means of resamples of the rows of (photos, columns): (RESAMPLES, columns)."""
    return np.stack([values[random.integers(len(values), size=len(values))].mean(axis=0) for _ in range(RESAMPLES)])


def _mean(arrays: object) -> Floats:
    return np.mean(list(arrays), axis=0)  # type: ignore[call-overload,no-any-return]


def _difference(means: Floats, resampled: Floats) -> Difference:
    low, high = np.quantile(resampled[:, 1] - resampled[:, 0], (0.025, 0.975))
    return Difference(float(means[0]), float(means[1]), float(low), float(high))
