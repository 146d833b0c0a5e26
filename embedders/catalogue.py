"""Which embedders there are. A further one is one file and one line: here, or in another package's entry points."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from imgrec.embedders.base import Embedder
from imgrec.embedders.devices import FLOAT32
from imgrec.embedders.errors import DuplicateEmbedderError, EmbedderParameterError, UnknownEmbedderError
from imgrec.embedders.modalities.color import ColorEmbedder
from imgrec.embedders.modalities.dreamsim import DreamSimEmbedder
from imgrec.embedders.modalities.efficientnet import ONNX_RUNTIME, EfficientNetEmbedder
from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.modalities.sift import SiftEmbedder
from imgrec.embedders.modalities.sift_codebook import DEFAULT, codebook_path, read_codebook
from imgrec.embedders.models.dreamsim_types import PREFIX
from imgrec.embedders.models.store import StoredModel, find_model
from imgrec.storage.photos.profiles import IGNORED, profiles_of

# From a library's vector settings and its folder of models (None outside of a library).
Factory = Callable[[Mapping[str, Any], Path | None], Embedder]

EMBEDDERS: dict[str, Factory] = {
    "color": ColorEmbedder.from_settings,
    "dreamsim": DreamSimEmbedder.from_settings,
    "efficientnet": EfficientNetEmbedder.from_settings,
    "openclip": OpenClipEmbedder.from_settings,
    "sift": SiftEmbedder.from_settings,
}
# Modalities whose model is in the store: the setting that names it, and what comes before that name there. A library
# keeps the model's card in place of the name.
MODEL_SETTINGS: dict[str, tuple[str, str]] = {
    "dreamsim": ("dreamsim_type", PREFIX),
    "openclip": ("openclip_model", ""),
}
# What libraries, and versions of their indexes, have that were made before there was a choice.
WITHOUT_CHOICE: Mapping[str, Any] = {
    "sift_codebook": DEFAULT,
    "precision": FLOAT32,
    "cpu_runtime": ONNX_RUNTIME,
    "icc_profiles": IGNORED,
}
# Where installed packages name theirs: modality = "module:factory" (https://packaging.python.org/specifications/entry-points).
ENTRY_POINTS = "imgrec.embedders"


def create_embedder(modality: str, vector_settings: Mapping[str, Any], models_dir: Path | None = None) -> Embedder:
    """Make the embedder of a modality from a library's vector settings and its models.

    Raises:
        UnknownEmbedderError: neither the catalogue nor an installed package has an embedder of this name.
        DuplicateEmbedderError: two of them have one of the same name.
        EmbedderParameterError: a setting is out of range, or another package's embedder is not what it is said to be.
        ModelFileError: learnt weights are missing or damaged.
    """
    check_modality(modality)
    factory: Factory = EMBEDDERS[modality] if modality in EMBEDDERS else _load(_installed()[modality])
    embedder = factory(vector_settings, models_dir)
    if embedder.spec.name != modality:  # by which tables, shards and indexes are called
        raise EmbedderParameterError(
            f"the embedder of {modality} calls itself {embedder.spec.name}: its spec and its entry point have to agree"
        )
    embedder.spec = replace(embedder.spec, icc_profiles=profiles_of(vector_settings))
    return embedder


def check_modality(modality: str) -> None:
    """Look whether there is an embedder of this name; makes none.

    Raises:
        UnknownEmbedderError: there is none.
        DuplicateEmbedderError: there are two.
    """
    known = {*EMBEDDERS, *_installed()}
    if modality not in known:
        there = ", ".join(sorted(known))
        raise UnknownEmbedderError(
            f"no modality {modality!r}: there are {there}; if another package brought it, install that package"
        )


def create_embedders(
    modalities: Iterable[str], vector_settings: Mapping[str, Any], models_dir: Path | None = None
) -> dict[str, Embedder]:
    return {modality: create_embedder(modality, vector_settings, models_dir) for modality in modalities}


def find_stored_model(modality: str, named: str, models_root: Path, digest: str | None = None) -> StoredModel:
    """Find the model that a setting of MODEL_SETTINGS names.

    Raises:
        ModelFileError: it is not in the store; the message names the command that fetches it.
    """
    return find_model(models_root, MODEL_SETTINGS[modality][1] + named, digest)


def check_stored_models(modalities: Iterable[str], vector_settings: Mapping[str, Any], models_root: Path) -> None:
    """Look whether the models that made these modalities' vectors are in the store; reads none.

    Raises:
        ModelFileError: one is not.
    """
    for modality in modalities:
        if modality in MODEL_SETTINGS:
            card = vector_settings[MODEL_SETTINGS[modality][0]]
            find_model(models_root, card["name"], card["digest"])


def model_files(vector_settings: Mapping[str, Any], models_dir: Path) -> list[Path]:
    """The files in a library's folder of models that these settings need."""
    sift = vector_settings.get("sift_codebook", DEFAULT)
    return [] if sift == DEFAULT else [codebook_path(models_dir, sift)]


def check_models(vector_settings: Mapping[str, Any], models_dir: Path) -> None:
    """Read those files, whatever of them is in memory.

    Raises:
        ModelFileError: one is missing or damaged.
    """
    for path in model_files(vector_settings, models_dir):
        read_codebook(path, vector_settings["sift_codebook"])


def _load(point: EntryPoint) -> Factory:
    try:
        return point.load()  # type: ignore[no-any-return] # anybody's
    except (ImportError, AttributeError) as error:
        package = point.dist.name if point.dist else "another package"
        raise EmbedderParameterError(
            f"the embedder {point.name} of {package} cannot be imported ({error}): install that package anew"
        ) from error


@cache
def _installed() -> dict[str, EntryPoint]:
    """The embedders that other installed packages bring, by name; none is imported yet."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in EMBEDDERS or point.name in found:
            package = point.dist.name if point.dist else point.value
            raise DuplicateEmbedderError(
                f"{package} brings an embedder {point.name!r}, and there is one: uninstall either"
            )
        found[point.name] = point
    return found
