"""What an installation may do without: the libraries of models that run in torch, which are 5 GB with CUDA's."""

from collections.abc import Iterable
from importlib.util import find_spec

from imgrec.embedders.errors import MissingExtraError

# What each of these modalities imports of it.
OPENCLIP = ("torch", "open_clip")
DREAMSIM = ("torch", "dreamsim", "peft")
INSTALL_LEARNED = "pip install 'image-recommender[learned]'"


def check_learned(who: str, libraries: Iterable[str]) -> None:
    """Look whether libraries of the extra [learned] are installed; imports none.

    Raises:
        MissingExtraError: one is not.
    """
    if missing := missing_of(libraries):
        raise MissingExtraError(f"{who} needs {', '.join(missing)}, not installed here: `{INSTALL_LEARNED}`")


def missing_of(libraries: Iterable[str]) -> list[str]:
    return [library for library in libraries if find_spec(library) is None]
