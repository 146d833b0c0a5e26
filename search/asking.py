"""What a search may ask for beside its queries."""

from collections.abc import Mapping
from typing import TypedDict

from imgrec.search.filters import FilterLike


class Asking(TypedDict, total=False):
    """What hits are to be, of all queries of a call alike.

    where: photos that may be hits, a Filter or a condition in SQL; default: all.
    not_itself: the query's own photo is none: that of `id:N`, or those with the content of a file or bytes.
    collapse_copies: photos of equal content are one hit, whose `copies` counts them.
    weights: what each modality counts, by name, instead of the combination's own weights; scores are those of a
        combination that was made with them.
    expand: a longer list is ranked anew by what its photos have for neighbours (search/reranking.py), so scores no
        longer fall from hit to hit.
    """

    where: FilterLike | None
    not_itself: bool
    collapse_copies: bool
    weights: Mapping[str, float] | None
    expand: bool
