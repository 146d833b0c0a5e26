"""What maps are made with, and an installation may do without: the extra [explore]."""

from imgrec.embedders.errors import MissingExtraError
from imgrec.embedders.extras import missing_of

LIBRARIES = ("umap", "hdbscan", "networkx", "plotly")
INSTALL_EXPLORE = "pip install 'image-recommender[explore]'"


def check_explore() -> None:
    """Look whether the libraries of the extra are installed; imports none.

    Raises:
        MissingExtraError: one is not.
    """
    if missing := missing_of(LIBRARIES):
        raise MissingExtraError(f"a map needs {', '.join(missing)}, not installed here: `{INSTALL_EXPLORE}`")
