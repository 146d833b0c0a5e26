"""How alike two photos have to be to count as copies of one picture: the defaults, by modality.

Measured by `benchmarks.duplicates` on the copies of benchmarks.quality (docs/duplicates.md has the table); those of
openclip and dreamsim are not, since no weights of them are at hand there.
"""

from collections.abc import Sequence

from imgrec.search.errors import QueryError
from imgrec.search.indexes.layout import Member

THRESHOLDS = {"color": 0.97, "sift": 0.3, "efficientnet": 0.8, "openclip": 0.96, "dreamsim": 0.93}


def default_threshold(members: Sequence[Member]) -> float:
    """The cosine from which photos are near copies in an index: the weighted mean of its members' thresholds.

    Raises:
        QueryError: a modality has none; it is another package's.
    """
    unknown = [member.modality for member in members if member.modality not in THRESHOLDS]
    if unknown:
        raise QueryError(f"no threshold is known for {', '.join(unknown)}: give one with --threshold, as 0.9")
    total = sum(member.weight for member in members)
    return sum(member.weight * THRESHOLDS[member.modality] for member in members) / total
