"""Several modalities in one vector: a weighted mean of their cosines."""

from collections.abc import Mapping, Sequence

import numpy as np

from imgrec.embedders.base import EmbedderSpec
from imgrec.search.errors import IndexNotFoundError
from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.names import canonical_name, combined_name, named_modalities
from imgrec.storage.names import source_of

# Shares before normalisation, by measurement (docs/decisions/combining-color-and-sift.md, combining-with-a-model.md).
WEIGHTS = {"color": 0.4, "sift": 0.6}
# The same beside a model, which knows so much more of what is shown that colours hardly help it.
WEIGHTS_BESIDE_A_MODEL = {"color": 0.1, "sift": 0.3}
_WEIGHT_OF_A_MODEL = 0.6


def index_modalities(name: str, known: Sequence[str]) -> dict[str, float]:
    """The modalities of an index, by its name, and their weights, which sum to 1.

    They are in the order in which rows hold them, which is the alphabet's, whatever the order in the name.

    Raises:
        IndexNotFoundError: `name` is no modality and no combination of `known` ones.
    """
    if not _can_be_built(name, known):
        choices = ", ".join([*known, *([combined_name(known)] if len(known) > 1 else [])])
        raise IndexNotFoundError(f"no index {name!r} can be built of this library's modalities: there are {choices}")
    parts = named_modalities(name)
    shares = WEIGHTS if WEIGHTS.keys() >= set(parts) else WEIGHTS_BESIDE_A_MODEL
    weights = {part: shares.get(part, _WEIGHT_OF_A_MODEL) for part in parts}
    total = sum(weights.values())
    return {part: weight / total for part, weight in weights.items()}


def index_members(name: str, specs: Mapping[str, EmbedderSpec]) -> tuple[Member, ...]:
    """The members of an index, by its name and the library's embedders."""
    weights = index_modalities(name, list(specs))
    return tuple(Member(part, specs[part].fingerprint, specs[part].dim, weight) for part, weight in weights.items())


def default_indexes(modalities: Sequence[str]) -> list[str]:
    """One index a modality, and their combination; a variant says nothing there that its source does not say."""
    combined = [modality for modality in modalities if source_of(modality) is None]
    return [*modalities, combined_name(combined)] if len(combined) > 1 else list(modalities)


def indexes_in_step(modalities: Sequence[str], there: Sequence[str], asked: Sequence[str] = ()) -> list[str]:
    """The indexes of an ingest: those asked for, or else the default ones; then all others that are there.

    Whatever is there may be searched, so none may fall behind. Folders of other names are nobody's index.
    """
    wanted = map(canonical_name, asked or default_indexes(modalities))
    return list(dict.fromkeys([*wanted, *sorted(name for name in there if _can_be_built(name, modalities))]))


def combine(members: Sequence[Member], vectors: Mapping[str, Vectors]) -> Vectors:
    """Concatenate unit vectors, each scaled by the root of its weight: (N, sum of dims).

    The inner product of two such rows is the weighted mean of their cosines. `vectors[modality]` is (N, dim); a row of
    zeros stands for a vector that is missing, and adds nothing.
    """
    if len(members) == 1:
        return np.ascontiguousarray(vectors[members[0].modality], np.float32)
    return np.concatenate(
        [vectors[member.modality] * np.float32(np.sqrt(member.weight)) for member in members], axis=1, dtype=np.float32
    )


def query_row(
    members: Sequence[Member], vectors: Mapping[str, Vectors], weights: Mapping[str, float] | None
) -> Vectors:
    """Return the row (1, dim of the index) whose product with an image's row is its score.

    `vectors` are the query's, (dim,) each. With `weights` (by modality, summing to 1) they count instead of the
    members' own: a row of an index is scaled by the roots of its own weights, so the query's is scaled by what is left
    to the asked ones. A modality that the query lacks is weighed out, so that it scores 1 against itself.
    """
    if len(members) == 1:
        return vectors[members[0].modality][np.newaxis]
    asked = {m.modality: m.weight if weights is None else weights[m.modality] for m in members}
    share = sum(weight for modality, weight in asked.items() if modality in vectors)
    parts = [
        vectors[m.modality] * np.float32(asked[m.modality] / np.sqrt(m.weight) / share)
        if m.modality in vectors
        else np.zeros(m.dim, np.float32)
        for m in members
    ]
    return np.concatenate(parts)[np.newaxis]


def _can_be_built(name: str, known: Sequence[str]) -> bool:
    try:
        return set(named_modalities(name)) <= set(known)
    except IndexNotFoundError:
        return False
