"""Generated DreamSim checkpoints, in the files that the library itself reads from its cache folder.

The weights are random, and scaled until different photos differ; real ones would have to be downloaded.
"""

import functools
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgrec.embedders.base import Pixels, Vectors
from imgrec.embedders.models.dreamsim_types import ADAPTER_CONFIG, BACKBONES, TYPES

if TYPE_CHECKING:
    import pytest
    import torch

WIDTH, DEPTH, RANK = 768, 12, 16
NARROW = 96
# What the released adapters say (the library reads these five keys itself, peft the rest).
ADAPTER = {"r": RANK, "lora_alpha": 0.5, "lora_dropout": 0.3, "bias": "none", "target_modules": ["qkv"]}


class Random:
    """Normal numbers for a network of this width, the same at every call of the tests."""

    def __init__(self, seed: int, width: int) -> None:
        import torch

        self.width = width
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape: int, scale: float, around: float = 0) -> "torch.Tensor":
        import torch

        return torch.randn(*shape, generator=self._generator) * scale + around


def write_cache(folder: Path, kind: str, width: int = WIDTH) -> Path:
    """Fill a folder as the library does at its first use of this type; backbones that are there stay."""
    for name in TYPES[kind].backbones:
        if not (folder / BACKBONES[name]).exists():
            write_backbone(folder / BACKBONES[name], name, width)
    write_adapter(folder / TYPES[kind].adapter, len(TYPES[kind].backbones), width)
    return folder


def write_backbone(path: Path, name: str, width: int = WIDTH) -> None:
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    random = Random(0, width)
    patch = int(name[-2:])
    side = 518 if name == "dinov2_vitb14" else 224
    weights: dict[str, Any] = dict(transformer(random, patch, (side // patch) ** 2 + 1))
    if name == "dinov2_vitb14":
        weights |= dict(layer_scales(random), mask_token=random(1, random.width, scale=1))
    if name == "synclr_vitb16":
        weights = {"model": {f"module.visual.{key}": tensor for key, tensor in weights.items()}}
    if "clip" in name:
        for key in ("cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"):
            weights[key] *= 0.02  # as small as CLIP's own, where the epsilon of the first normalisation counts
        weights |= {
            "pos_drop.weight": random(random.width, scale=0.1, around=1),
            "pos_drop.bias": random(random.width, scale=0.1),
        }
        weights = {"state_dict": {**weights, "proj": random(random.width, 512, scale=random.width**-0.5)}}
    torch.save(weights, path)


def transformer(random: Random, patch: int, tokens: int) -> "Iterator[tuple[str, torch.Tensor]]":
    yield "cls_token", random(1, 1, random.width, scale=0.5)
    yield "pos_embed", random(1, tokens, random.width, scale=0.2)
    yield "patch_embed.proj.weight", random(random.width, 3, patch, patch, scale=2 / patch)
    yield "patch_embed.proj.bias", random(random.width, scale=0.1)
    yield from norm(random, "norm")
    different = [dict(block(random)) for _ in range(2)]  # in turn: torch writes each once, 60 MB instead of 350
    for number in range(DEPTH):
        for key, tensor in different[number % len(different)].items():
            yield f"blocks.{number}.{key}", tensor


def block(random: Random) -> "Iterator[tuple[str, torch.Tensor]]":
    yield from norm(random, "norm1")
    yield from linear(random, "attn.qkv", random.width, 3 * random.width, 1.5)
    yield from linear(random, "attn.proj", random.width, random.width, 1)
    yield from norm(random, "norm2")
    yield from linear(random, "mlp.fc1", random.width, 4 * random.width, 1)
    yield from linear(random, "mlp.fc2", 4 * random.width, random.width, 1)


def layer_scales(random: Random) -> "Iterator[tuple[str, torch.Tensor]]":
    for number in range(DEPTH):
        for scale in ("ls1", "ls2"):
            yield f"blocks.{number}.{scale}.gamma", random(random.width, scale=0.3, around=1)


def norm(random: Random, name: str) -> "Iterator[tuple[str, torch.Tensor]]":
    yield f"{name}.weight", random(random.width, scale=0.2, around=1)
    yield f"{name}.bias", random(random.width, scale=0.1)


def linear(random: Random, name: str, inputs: int, outputs: int, gain: float) -> "Iterator[tuple[str, torch.Tensor]]":
    yield f"{name}.weight", random(outputs, inputs, scale=gain * inputs**-0.5)
    yield f"{name}.bias", random(outputs, scale=0.1)


def write_adapter(folder: Path, backbones: int, width: int) -> None:
    """Write what peft's `save_pretrained` writes."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    random = Random(1, width)
    weights = {}
    for backbone in range(backbones):
        for number in range(DEPTH):
            layer = f"base_model.model.extractor_list.{backbone}.model.blocks.{number}.attn.qkv"
            weights[f"{layer}.lora_A.weight"] = random(RANK, random.width, scale=1)
            weights[f"{layer}.lora_B.weight"] = random(3 * random.width, RANK, scale=0.3)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    facts = {"peft_type": "LORA", "task_type": None, "inference_mode": True, "base_model_name_or_path": "", **ADAPTER}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(facts))


# facebookresearch/dino and dinov2, whose code the library fetches with torch.hub and runs: the same networks, of timm.
HUB_CODE = """
import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import interpolate


class DinoV2(VisionTransformer):
    def _pos_embed(self, x):
        images, height, width, channels = x.shape
        grid = self.pos_embed[:, 1:].reshape(1, 37, 37, channels).permute(0, 3, 1, 2)
        scale = (height + 0.1) / 37, (width + 0.1) / 37
        grid = interpolate(grid, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1).flatten(1, 2)
        positions = torch.cat([self.pos_embed[:, :1], grid], dim=1)
        return torch.cat([self.cls_token.expand(images, -1, -1), x.flatten(1, 2)], dim=1) + positions


def weights(url):
    return torch.hub.load_state_dict_from_url("https://dl.fbaipublicfiles.com/" + url, map_location="cpu")


def dino_vitb16():
    model = timm.create_model("vit_base_patch16_224.dino", num_classes=0, embed_dim=WIDTH)
    model.load_state_dict(weights("dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth"))
    return model


def dinov2_vitb14():
    model = DinoV2(embed_dim=WIDTH, img_size=518, patch_size=14, init_values=1.0, num_classes=0, dynamic_img_size=True)
    del (state := weights("dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth"))["mask_token"]
    model.load_state_dict(state)
    return model
"""


def write_hub(folder: Path, width: int = WIDTH) -> None:
    """Write what the library needs of the DINO types, and we do not."""
    import torch

    for repository in ("facebookresearch_dino_main", "facebookresearch_dinov2_main"):
        (folder / repository).mkdir(exist_ok=True)
        (folder / repository / "hubconf.py").write_text(f"WIDTH = {width}\n{HUB_CODE}")
    # The library puts these into a head that it does not use, whatever their shape.
    head = [f"mlp.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")]
    student = {f"module.head.{key}": torch.zeros(1) for key in (*head, "last_layer.weight")}
    torch.save({"student": student}, folder / "dino_vitb16_pretrain.pth")
    torch.save({}, folder / "dinov2_vitb14_pretrain.pth")


def narrow(monkeypatch: "pytest.MonkeyPatch", width: int = NARROW) -> None:
    """Let the library make its transformers of another width: the same code, a hundredth of the work."""
    import torch
    from dreamsim.feature_extraction import (
        load_clip_as_dino,
        load_open_clip_as_dino,
        load_synclr_as_dino,
        vision_transformer,
    )

    made = functools.partial(
        vision_transformer.VisionTransformer,
        embed_dim=width,
        num_heads=12,
        qkv_bias=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
    )
    for module in (load_clip_as_dino, load_open_clip_as_dino, load_synclr_as_dino, vision_transformer):
        monkeypatch.setattr(module, "vit_base", made)


# What the library makes of them


@functools.cache
def original(cache: Path, kind: str) -> tuple[Any, Callable[[Image.Image], "torch.Tensor"]]:
    """The library, called as its README does it: a model, and what prepares pictures for it."""
    from dreamsim import dreamsim

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # the library adapts its model twice
        warnings.filterwarnings("ignore", ".*weight_norm` is deprecated")
        return dreamsim(pretrained=True, device="cpu", cache_dir=str(cache), dreamsim_type=kind)  # type: ignore[no-any-return]


def reference(cache: Path, kind: str, pictures: Sequence[Pixels]) -> Vectors:
    """Embed pictures with the library, one at a time."""
    import torch

    model, preprocess = original(cache, kind)
    with torch.no_grad():
        return np.concatenate([model.embed(preprocess(Image.fromarray(picture))).numpy() for picture in pictures])
