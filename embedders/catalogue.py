"""Which embedders there are. A further one is one file and one line here."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from embedders.base import Embedder
from embedders.color import ColorEmbedder
from embedders.errors import UnknownEmbedderError

EMBEDDERS: dict[str, Callable[[Mapping[str, Any]], Embedder]] = {
    "color": ColorEmbedder.from_settings,
}


def create_embedder(modality: str, vector_settings: Mapping[str, Any]) -> Embedder:
    """Make the embedder of a modality from a library's vector settings.

    Raises:
        UnknownEmbedderError: the name is not in the catalogue.
        EmbedderParameterError: a setting is out of range.
    """
    if modality not in EMBEDDERS:
        raise UnknownEmbedderError(f"no modality {modality!r}: there are {', '.join(sorted(EMBEDDERS))}")
    return EMBEDDERS[modality](vector_settings)


def create_embedders(modalities: Iterable[str], vector_settings: Mapping[str, Any]) -> dict[str, Embedder]:
    return {modality: create_embedder(modality, vector_settings) for modality in modalities}
