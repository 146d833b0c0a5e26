"""Weights of modalities that a search asks for, instead of those that its combination has."""

import math
from collections.abc import Mapping, Sequence

from imgrec.search.errors import QueryError
from imgrec.search.names import combined_name, in_order

Weights = Mapping[str, float]


def parse_weights(text: str) -> dict[str, float]:
    """Read `color=1,sift=0.5`.

    Raises:
        QueryError: it says something else, or a weight is negative, or none is more than 0.
    """
    weights: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, found, number = (piece.strip() for piece in part.partition("="))
        try:
            if not found or not name or name in weights:
                raise ValueError
            weights[name] = float(number)
        except ValueError:
            raise QueryError(
                f"weights {text!r}: {part!r} is no weight of a modality; write them as color=1,sift=0.5"
            ) from None
    check_weights(weights)
    return weights


def check_weights(weights: Weights) -> None:
    """Refuse weights that no search can have.

    Raises:
        QueryError: a weight is negative or no number, or none is more than 0.
    """
    told = ",".join(f"{name}={weight:g}" for name, weight in weights.items())
    if any(not math.isfinite(weight) or weight < 0 for weight in weights.values()):
        raise QueryError(f"weights {told}: a weight is 0 or more")
    if not any(weights.values()):
        raise QueryError(f"weights {told or 'of nothing'}: one of them has to be more than 0")


def weights_of(asked: Weights, modalities: Sequence[str], known: Sequence[str]) -> dict[str, float]:
    """The share of each of an index's modalities, those left out having none; they sum to 1. The library has `known`.

    Raises:
        QueryError: a weight is for a modality that the index has not.
    """
    check_weights(asked)
    if strangers := in_order(asked.keys() - set(modalities)):
        told, there = f"weights for {', '.join(strangers)}, which this ", ", ".join(in_order(modalities))
        if set(strangers) - set(known):
            raise QueryError(f"{told}library has not: it has {', '.join(in_order(known))}")
        name = combined_name({*modalities, *strangers})
        raise QueryError(f"{told}index has not: it has {there}; `imgrec index build --index {name}` makes one of all")
    total = sum(asked.values())
    return {name: asked.get(name, 0.0) / total for name in modalities}
