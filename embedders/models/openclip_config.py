"""open_clip_config.json: what a model of open_clip is, and how pictures are made ready for it.

It states what must never be guessed: QuickGELU or GELU, mean and standard deviation, how pictures are resized.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from imgrec.embedders.errors import ModelFileError
from imgrec.storage.machine.bounded import read_small

CONFIG = "open_clip_config.json"
STATED = ("mean", "std", "interpolation", "resize_mode")
INTERPOLATIONS, RESIZE_MODES = ("bicubic", "bilinear"), ("shortest", "longest", "squash")
# By how a published model's tag begins; of others, the page that they come from says it.
LICENCES = {
    "openai": "MIT (OpenAI CLIP)",
    "laion": "MIT",
    "datacomp_": "MIT",
    "commonpool_": "MIT",
    "metaclip": "CC-BY-NC-4.0: not for commercial use",
}
# What values of the preprocessing are right, in words and to a function.
_ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "mean": ("three numbers of 0…1", lambda value: _are_three(value, lambda number: 0 <= number <= 1)),
    "std": ("three numbers above 0, up to 1", lambda value: _are_three(value, lambda number: 0 < number <= 1)),
    "interpolation": (" or ".join(INTERPOLATIONS), lambda value: value in INTERPOLATIONS),
    "resize_mode": (" or ".join(RESIZE_MODES), lambda value: value in RESIZE_MODES),
    "fill_color": ("a whole number of 0…255", lambda value: type(value) is int and 0 <= value <= 255),
    "mode": ("RGB", lambda value: value == "RGB"),
}
TOWERS = ("vision_cfg", "text_cfg")
# What a config says of training, and of where weights and tokenizers are from, which changes no vector.
_NO_ARCHITECTURE = ("patch_dropout", "timm_drop", "timm_drop_path", "timm_model_pretrained", "hf_model_pretrained")


def known_config(name: str) -> dict[str, Any] | None:
    """The config of an `arch.tag` that open_clip knows; None if it knows no such pretrained model.

    Raises:
        ModelFileError: this architecture was not trained with these weights.
    """
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg

    arch, _, tag = name.rpartition(".")
    pretrained = get_pretrained_cfg(arch, tag)
    if not pretrained:
        return None
    model = get_model_config(arch)
    quick_gelu = bool(model.get("quick_gelu"))
    if pretrained.get("quick_gelu") and not quick_gelu:  # where the tag is silent, the architecture says it
        raise ModelFileError(
            f"{name}: these weights were trained with QuickGELU, which this name is without: {arch}-quickgelu.{tag}"
        )
    stated = {key: pretrained[key] for key in STATED}
    return make_config(model, quick_gelu, stated)


def licence_of(name: str) -> str | None:
    """The licence of the weights of a published `arch.tag`; None where only their page says it."""
    tag = name.rpartition(".")[2]
    return next((said for begin, said in LICENCES.items() if tag.startswith(begin)), None)


def make_config(model: Mapping[str, Any], quick_gelu: bool, preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """What open_clip_config.json says of an architecture with everything stated."""
    check_preprocessing(preprocessing)
    return {"model_cfg": {**model, "quick_gelu": quick_gelu}, "preprocess_cfg": dict(preprocessing)}


def read_config(folder: Path) -> dict[str, Any]:
    """Read a folder's config.

    Raises:
        ModelFileError: there is none, or it is none.
    """
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(read_small(path))
        model = {**config["model_cfg"], **{tower: dict(config["model_cfg"][tower]) for tower in TOWERS}}
        found = {"model_cfg": model, "preprocess_cfg": dict(config.get("preprocess_cfg") or {})}
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): it describes a model of open_clip") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{path} is no description of a model of open_clip ({error!r})") from error
    if not isinstance(gelu := model.get("quick_gelu"), bool | None):
        raise ModelFileError(f"{path}: quick_gelu is {gelu!r}, and has to be true or false")
    if str(model["vision_cfg"].get("timm_model_name") or "").startswith("hf-hub:"):
        raise ModelFileError(f"{path}: its image tower is fetched from a hub whenever it is loaded: it is not offered")
    return found


def has_foreign_words(text_cfg: Mapping[str, Any]) -> bool:
    """Whether the text tower is a model of transformers, whose description a hub has; then words are not read here."""
    return bool(text_cfg.get("hf_model_name"))


def check_preprocessing(preprocessing: Mapping[str, Any]) -> None:
    """Refuse what open_clip would take and nobody can mean; a value that is None is not said.

    Raises:
        ModelFileError: a value is none of those that are allowed.
    """
    for key, (allowed, is_allowed) in _ALLOWED.items():
        if (value := preprocessing.get(key)) is not None and not is_allowed(value):
            said = list(value) if isinstance(value, tuple) else value
            raise ModelFileError(f"{key} is {said!r}, and has to be {allowed}")


def unstated(config: Mapping[str, Any]) -> list[str]:
    """What a config leaves to open_clip's defaults, which may be wrong without a sign."""
    missing = [] if "quick_gelu" in config["model_cfg"] else ["quick_gelu"]
    return missing + [key for key in STATED if config["preprocess_cfg"].get(key) is None]


def architecture(model: Mapping[str, Any]) -> dict[str, Any]:
    """What a model_cfg says that changes vectors, but for QuickGELU; open_clip's defaults are filled in."""
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    vision, text = (
        {key: value for key, value in {**asdict(defaults), **model[tower]}.items() if key not in _NO_ARCHITECTURE}
        for tower, defaults in zip(TOWERS, (CLIPVisionCfg(), CLIPTextCfg()), strict=True)
    )
    for tower in (vision, text):
        tower["ls_init_value"] = tower["ls_init_value"] is not None  # the value is only what training begins with
    if isinstance(side := vision["image_size"], int):
        vision["image_size"] = [side, side]
    # Where words have a tokenizer of transformers, they are not read here: it does not matter which, and how.
    text["hf_tokenizer_name"] = bool(text["hf_tokenizer_name"])
    text["tokenizer_kwargs"] = {} if text["hf_tokenizer_name"] else text["tokenizer_kwargs"] or {}
    return {
        "embed_dim": model.get("embed_dim"),
        "multimodal_cfg": "multimodal_cfg" in model,
        **{f"vision_cfg.{key}": value for key, value in vision.items()},
        **{f"text_cfg.{key}": value for key, value in text.items()},
    }


def _are_three(value: Any, is_allowed: Callable[[float], bool]) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 3
        and all(type(number) in (int, float) and is_allowed(number) for number in value)
    )
