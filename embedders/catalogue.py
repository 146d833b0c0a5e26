"""Which embedders there are. A further one is one file and one line here."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from embedders.base import Embedder
from embedders.color import ColorEmbedder
from embedders.efficientnet import EfficientNetEmbedder
from embedders.errors import UnknownEmbedderError
from embedders.sift import SiftEmbedder
from embedders.sift_model import DEFAULT, model_path, read_model

# From a library's vector settings and its folder of models (None outside of a library).
EMBEDDERS: dict[str, Callable[[Mapping[str, Any], Path | None], Embedder]] = {
    "color": ColorEmbedder.from_settings,
    "efficientnet": EfficientNetEmbedder.from_settings,
    "sift": SiftEmbedder.from_settings,
}


def create_embedder(modality: str, vector_settings: Mapping[str, Any], models_dir: Path | None = None) -> Embedder:
    """Make the embedder of a modality from a library's vector settings and its models.

    Raises:
        UnknownEmbedderError: the name is not in the catalogue.
        EmbedderParameterError: a setting is out of range.
        ModelFileError: learnt weights are missing or damaged.
    """
    if modality not in EMBEDDERS:
        raise UnknownEmbedderError(f"no modality {modality!r}: there are {', '.join(sorted(EMBEDDERS))}")
    return EMBEDDERS[modality](vector_settings, models_dir)


def create_embedders(
    modalities: Iterable[str], vector_settings: Mapping[str, Any], models_dir: Path | None = None
) -> dict[str, Embedder]:
    return {modality: create_embedder(modality, vector_settings, models_dir) for modality in modalities}


def model_files(vector_settings: Mapping[str, Any], models_dir: Path) -> list[Path]:
    """The files in a library's folder of models that these settings need."""
    sift = vector_settings.get("sift_model", DEFAULT)
    return [] if sift == DEFAULT else [model_path(models_dir, sift)]


def check_models(vector_settings: Mapping[str, Any], models_dir: Path) -> None:
    """Read those files, whatever of them is in memory.

    Raises:
        ModelFileError: one is missing or damaged.
    """
    for path in model_files(vector_settings, models_dir):
        read_model(path, vector_settings["sift_model"])
