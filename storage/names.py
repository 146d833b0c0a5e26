"""Names of modalities, and the tables and views that carry them."""

import re

from imgrec.storage.errors import ImgrecError

_MODALITY = re.compile(r"[a-z][a-z0-9]*")


class ModalityNameError(ImgrecError, ValueError):
    """A modality's name is not of the form that tables and files can carry."""


def check_modality(name: str) -> str:
    """Return `name` if it may stand in SQL and in paths.

    Raises:
        ModalityNameError: it is not `[a-z][a-z0-9]*`.
    """
    if not _MODALITY.fullmatch(name):
        raise ModalityNameError(f"{name!r} is no name of a modality: lower-case letters and digits, a letter first")
    return name


def vector_table(modality: str) -> str:
    return f"{check_modality(modality)}_vectors"
