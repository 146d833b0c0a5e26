"""DreamSim's networks: the library's own classes, filled from files that are read and never run.

`dreamsim.dreamsim()` itself is not called. For the DINO types it has torch.hub download code, runs that, and unpickles
what belongs to it with `weights_only=False`; it leaves torch.hub's directory changed; it loads SynCLR with whatever
torch's default is; and what lies in its folder it takes for whole. Here no hub is asked, and everything is read with
`weights_only=True`. tests/embedders/modalities/test_dreamsim.py says that the
vectors are those of `dreamsim.dreamsim()`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from imgrec.embedders.errors import ModelFileError, in_short
from imgrec.embedders.models.dreamsim_types import ADAPTER_CONFIG, BACKBONES, PREFIX, TYPES, DreamSimType
from imgrec.storage.machine.bounded import read_small

if TYPE_CHECKING:
    import torch

# The keys of a module that DistributedDataParallel has wrapped, as the library's loader cuts them.
_SYNCLR_PREFIX = len("module.visual.")
# What torch and peft raise when a file is not what they expect.
_LOADING_ERRORS = (
    AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError,
    UnpicklingError,
)  # fmt: skip


def load_network(folder: Path, name: str, device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Load the model `dreamsim.<type>`: pictures (N, 3, 224, 224) in [0, 1] → embeddings (N, dim), not yet centred.

    Raises:
        ModelFileError: a file is missing, truncated, of another architecture, or has weights that are not finite.
    """
    import torch
    from safetensors import SafetensorError

    kind = TYPES[name.removeprefix(PREFIX)]
    try:
        networks, projections = _assemble(folder, kind)
    except (*_LOADING_ERRORS, SafetensorError) as error:
        said = f"no {error}" if isinstance(error, KeyError) else in_short(error)
        raise ModelFileError(f"{name} is damaged, or another model: {said}") from error
    tensors = [*networks.parameters(), *(projection for projection in projections if projection is not None)]
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        raise ModelFileError(f"{name} is damaged: it has weights that are not finite numbers")
    networks.eval().requires_grad_(False).to(device)
    branches = [
        _branch(backbone, part["model"], None if projection is None else projection.to(device))
        for backbone, part, projection in zip(kind.backbones, networks.extractor_list, projections, strict=True)
    ]
    return lambda pictures: torch.cat([branch(pictures) for branch in branches], dim=1)


def _assemble(folder: Path, kind: DreamSimType) -> "tuple[Any, list[torch.Tensor | None]]":
    """Load the backbones, named as in the library's PerceptualModel, whose names an adapter has, and adapt them."""
    import torch

    models, projections = zip(*(_load_backbone(name, folder) for name in kind.backbones), strict=True)
    networks = torch.nn.Module()
    networks.extractor_list = torch.nn.ModuleList([torch.nn.ModuleDict({"model": model}) for model in models])
    _merge_adapter(networks, folder, kind)
    for model in models:
        _fold_layer_scale(model)
    return networks, list(projections)


def _load_backbone(name: str, folder: Path) -> "tuple[Any, torch.Tensor | None]":
    """Load a vision transformer, and the projection of those that have one."""
    from dreamsim.feature_extraction.load_clip_as_dino import load_clip_as_dino
    from dreamsim.feature_extraction.load_open_clip_as_dino import load_open_clip_as_dino
    from dreamsim.feature_extraction.vision_transformer import vit_base

    if "clip" in name:
        load = load_open_clip_as_dino if name.startswith("open_clip") else load_clip_as_dino
        model, projection = load(int(name[-2:]), str(folder))
        return model, projection.detach().float()
    weights = _read(folder / BACKBONES[name])
    if name == "dinov2_vitb14":
        return _dinov2(weights), None
    if name == "synclr_vitb16":
        weights = {key[_SYNCLR_PREFIX:]: tensor for key, tensor in weights["model"].items()}
    model = vit_base(patch_size=16)
    model.load_state_dict(weights)
    return model, None


def _dinov2(weights: "dict[str, torch.Tensor]") -> Any:
    """DINOv2's transformer is DINO's with a scale after each residual branch, which `_fold_layer_scale` takes care of.

    It even interpolates the positions of 37 × 37 patches, at which it was trained, in the same way.
    """
    from dreamsim.feature_extraction.vision_transformer import vit_base

    model = vit_base(patch_size=14, img_size=[518])
    del weights["mask_token"]  # for training only
    scales = {name: weights.pop(name).float() for name in list(weights) if name.endswith(".gamma")}
    model.load_state_dict(weights)
    for number, block in enumerate(model.blocks):
        block.attn.layer_scale = scales[f"blocks.{number}.ls1.gamma"]
        block.mlp.layer_scale = scales[f"blocks.{number}.ls2.gamma"]
    return model


def _fold_layer_scale(model: Any) -> None:
    """Multiply DINOv2's scales into the layers before them. It comes after the adapter, which is of those layers."""
    for block in model.blocks:
        for part, layer in ((block.attn, block.attn.proj), (block.mlp, block.mlp.fc2)):
            if hasattr(part, "layer_scale"):
                layer.weight.data *= part.layer_scale[:, None]
                layer.bias.data *= part.layer_scale


def _merge_adapter(networks: "torch.nn.Module", folder: Path, kind: DreamSimType) -> None:
    """Add the fine-tuning (LoRA: Hu et al. 2021, https://arxiv.org/abs/2106.09685) to the weights it is of.

    The configuration is taken as far as the library takes it. All keys have to find their place, or else the vectors
    would silently be those of the backbone alone: peft only warns.
    """
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

    config = json.loads(read_small(folder / kind.adapter / ADAPTER_CONFIG))
    names = ("r", "lora_alpha", "lora_dropout", "bias", "target_modules")
    model = get_peft_model(networks, LoraConfig(**{name: config[name] for name in names}))
    result: Any = set_peft_model_state_dict(model, _read_adapter(folder, kind))
    homeless = [*(key for key in result.missing_keys if "lora_" in key), *result.unexpected_keys]
    if homeless:
        raise ValueError(f"an adapter of other layers: {homeless[0]}")
    model.merge_and_unload()


def _read_adapter(folder: Path, kind: DreamSimType) -> "dict[str, torch.Tensor]":
    from safetensors.torch import load_file

    safe, pickled = (folder / path for path in kind.adapter_weights)
    return load_file(safe) if safe.exists() else dict(_read(pickled))


def _read(path: Path) -> Any:
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)


def _branch(name: str, model: Any, projection: "torch.Tensor | None") -> "Callable[[torch.Tensor], torch.Tensor]":
    """The embedding of one backbone: CLIP's is projected, the others' the first token before the last normalisation."""
    import torch
    from dreamsim import constants

    of = "OPENAI_CLIP" if "clip" in name else "IMAGENET_DEFAULT"
    mean, std = (
        torch.tensor(getattr(constants, f"{of}_{statistic}"), device=model.cls_token.device)[:, None, None]
        for statistic in ("MEAN", "STD")
    )

    def embed(pictures: "torch.Tensor") -> Any:
        normal = (pictures - mean) / std
        if projection is not None:
            return model(normal) @ projection
        tokens = model.prepare_tokens(normal)
        for block in model.blocks:
            tokens = block(tokens)
        return tokens[:, 0]

    return embed
