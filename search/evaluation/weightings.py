"""Weights of modalities: as a user writes them, as an index has them, and a small grid of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from imgrec.search.evaluation.engine import Subject
from imgrec.search.evaluation.errors import WeightsError
from imgrec.search.names import in_order
from imgrec.search.weights import parse_weights

# As fine as it can be while there are no more of them than these: tenths for up to three modalities.
MAX_GRID = 100


@dataclass(frozen=True, eq=False)
class Weighting:
    """Shares of the score by modality, which sum to 1. `name` is an index's, or says the weights."""

    name: str
    weights: Mapping[str, float]


def weighting_of(subject: Subject) -> Weighting:
    """The weighting that an index has."""
    return Weighting(subject.name, _ordered(subject.weights))


def parse_weighting(text: str, known: Sequence[str]) -> Weighting:
    """Read `color=1,sift=0.5`, which stays its name; a modality that is not named weighs nothing.

    Raises:
        QueryError: it says something else, or nothing weighs anything.
        WeightsError: a name is none of the `known` modalities.
    """
    found = parse_weights(text)
    if strangers := in_order(found.keys() - set(known)):
        there = ", ".join(known)
        raise WeightsError(f"--weights {text}: no modality {strangers[0]!r} in these indexes: there are {there}")
    total = sum(found.values())
    given = _ordered({name: value for name, value in found.items() if value})
    return Weighting(describe_weights(given), {name: value / total for name, value in given.items()})


def describe_weights(weights: Mapping[str, float]) -> str:
    """Write weights as `--weights` reads them."""
    return ",".join(f"{name}={weight:.3g}" for name, weight in weights.items())


def grid(modalities: Sequence[str]) -> list[Weighting]:
    """All weights of some modalities in equal steps, each alone among them."""
    steps = next(steps for steps in (10, 5, 4, 3, 2, 1) if steps == 1 or _count(steps, len(modalities)) <= MAX_GRID)
    names = in_order(modalities)
    shares = [
        {name: part / steps for name, part in zip(names, parts, strict=True) if part}
        for parts in _compositions(steps, len(names))
    ]
    return [Weighting(describe_weights(each), each) for each in shares]


def _ordered(weights: Mapping[str, float]) -> dict[str, float]:
    return {name: weights[name] for name in in_order(weights)}


def _count(steps: int, parts: int) -> int:
    return sum(1 for _ in _compositions(steps, parts))


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield first, *rest
