"""Names of modalities, and the tables and views that carry them."""

import re

from imgrec.storage.errors import ImgrecError

# A variant, which is made of another modality's vectors, is named after a dot: efficientnet.pca64.
_MODALITY = re.compile(r"[a-z][a-z0-9]*(\.[a-z0-9]+)?")


class ModalityNameError(ImgrecError, ValueError):
    """A modality's name is not of the form that tables and files can carry."""


def check_modality(name: str) -> str:
    """Return `name` if it may stand in SQL and in paths.

    Raises:
        ModalityNameError: it is not `[a-z][a-z0-9]*`, or that and a variant after a dot.
    """
    if not _MODALITY.fullmatch(name):
        raise ModalityNameError(
            f"{name!r} is no name of a modality: lower-case letters and digits, a letter first, and of a "
            "variant the same after a dot"
        )
    return name


def vector_table(modality: str) -> str:
    return f"{sql_name(modality)}_vectors"


def sql_name(modality: str) -> str:
    """What a modality is called where a dot has a meaning of its own; no two have the same, since none has a `_`."""
    return check_modality(modality).replace(".", "_")


def source_of(modality: str) -> str | None:
    """The modality that a variant is made of; None where the name is no variant's."""
    source, dot, _ = modality.partition(".")
    return source if dot else None
