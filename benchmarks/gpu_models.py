"""Models of the real architectures with generated weights, put into a folder of models as a user's are."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgrec.embedders.models.store import StoredModel

# A model's modality, and the vector settings that choose it.
Made = tuple[str, dict[str, Any]]


def openclip(architecture: str) -> Callable[[Path], Made]:
    """A CLIP of open_clip; of its text half, which nobody asks, one layer."""

    def make(models_root: Path) -> Made:
        from open_clip import get_model_config

        from imgrec.embedders.models.openclip_adding import add_openclip
        from tests.embedders.openclip_files import write_folder

        config = get_model_config(architecture)
        config = {**config, "quick_gelu": False, "text_cfg": {**config["text_cfg"], "layers": 1}}
        with tempfile.TemporaryDirectory() as folder:
            name = f"{architecture}.random"
            stored = add_openclip(models_root, name, write_folder(Path(folder) / "model", config))
        return "openclip", {"openclip_model": _card(stored)}

    return make


def dreamsim(models_root: Path) -> Made:
    """DreamSim's default type."""
    import dreamsim  # noqa: F401 - whose code reads the weights
    import peft  # noqa: F401

    from imgrec.embedders.models.dreamsim_adding import add_dreamsim
    from tests.embedders.dreamsim_files import write_cache

    kind = "open_clip_vitb32"
    with tempfile.TemporaryDirectory() as folder:
        stored = add_dreamsim(models_root, f"dreamsim.{kind}", write_cache(Path(folder), kind))
    return "dreamsim", {"dreamsim_type": _card(stored)}


def efficientnet(_models_root: Path) -> Made:
    """The packaged weights."""
    return "efficientnet", {}


def _card(stored: StoredModel) -> dict[str, Any]:
    return dict(stored.card)


MODELS: dict[str, Callable[[Path], Made]] = {
    "efficientnet": efficientnet,
    "ViT-B-32": openclip("ViT-B-32"),
    "DreamSim, open_clip_vitb32": dreamsim,
    "ViT-L-14": openclip("ViT-L-14"),
}
