"""Names of indexes: a modality's own name, or `combo_` and the names of several.

Whoever names an index may give its modalities in any order. People are shown one: colour, sift, then the learned ones
by the alphabet. The folder of an index and its rows in `index_rows` are called by its modalities in the order of the
alphabet, as in every library from the first on. So each set of modalities has one folder, whatever the library's age;
to rename the folders of old libraries would break open searches, and write all rows of `index_rows` anew.
"""

from collections.abc import Iterable, Sequence

from imgrec.search.errors import IndexNotFoundError
from imgrec.storage.names import ModalityNameError, check_modality

COMBINED = "combo_"
_NOT_LEARNED = ("color", "sift")


def combined_name(modalities: Iterable[str]) -> str:
    """The name of the combination of these modalities."""
    return COMBINED + "_".join(in_order(modalities))


def in_order(modalities: Iterable[str]) -> list[str]:
    """Sort modalities as people are shown them: colour, sift, then the learned ones by the alphabet."""
    return sorted(modalities, key=lambda name: (_NOT_LEARNED.index(name) if name in _NOT_LEARNED else 2, name))


def canonical_name(name: str) -> str:
    """The one name that is shown of the index that `name` means.

    Raises:
        IndexNotFoundError: `name` can be no index's.
    """
    parts = named_modalities(name)
    return combined_name(parts) if name.startswith(COMBINED) else name


def stored_name(name: str) -> str:
    """What the folder of the index that `name` means is called, and its rows in `index_rows`.

    Raises:
        IndexNotFoundError: `name` can be no index's.
    """
    parts = named_modalities(name)
    return COMBINED + "_".join(parts) if name.startswith(COMBINED) else name


def named_modalities(name: str) -> list[str]:
    """The modalities that an index's name names, by the alphabet. A name is no path, and names none twice.

    Raises:
        IndexNotFoundError: `name` can be no index's.
    """
    parts = sorted(name.removeprefix(COMBINED).split("_")) if name.startswith(COMBINED) else [name]
    try:
        if len({check_modality(part) for part in parts}) == len(parts):
            return parts
    except ModalityNameError:
        pass
    raise IndexNotFoundError(
        f"no index {name!r}: an index is called as its modality, or {COMBINED} and several of them, as combo_color_sift"
    )


def is_index_name(name: str) -> bool:
    """Whether a folder of this name, or rows of it in `index_rows`, are an index's."""
    try:
        return stored_name(name) == name
    except IndexNotFoundError:
        return False


def by_preference(names: Sequence[str]) -> list[str]:
    """Sort indexes, the one first that is searched when none is named.

    That is the combination of most modalities; without one, that of a learned modality, then sift, then colour.
    """

    def rank(name: str) -> tuple[int, int, bool, str]:
        parts = named_modalities(name)
        return -len(parts), -len(set(parts) - set(_NOT_LEARNED)), "sift" not in parts, name

    return sorted(names, key=rank)
