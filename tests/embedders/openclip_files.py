"""Small models of open_clip in the real file layout, whose weights make different photos differ."""

import json
from pathlib import Path
from typing import Any

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PREPROCESSING: dict[str, Any] = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
TINY: dict[str, Any] = {
    "embed_dim": 48,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "head_width": 16, "patch_size": 32},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def make_weights(model_cfg: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """Weights of an architecture, random, and scaled until its vectors say something of a picture."""
    import torch
    from open_clip import CLIP

    torch.manual_seed(seed)
    model = CLIP(**json.loads(json.dumps(model_cfg)))
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim >= 2:
                tensor.mul_(6 if "mlp" in name else 3)
        # Filters of a trained model are smooth; noise would see most in what JPEG leaves out.
        filters = torch.nn.functional.avg_pool2d(model.visual.conv1.weight, 5, 1, 2)
        model.visual.conv1.weight.copy_(filters * 10)
        # What all pictures have in common would hide how they differ.
        seen: list[Any] = []
        hook = model.visual.ln_post.register_forward_hook(lambda layer, given, made: seen.append(made[:, 0]))
        size = model.visual.image_size
        model.eval().encode_image(torch.nn.functional.interpolate(torch.randn(16, 3, 5, 5), size, mode="bicubic"))
        hook.remove()
        model.visual.ln_post.bias.sub_(seen[0].mean(0))
    weights: dict[str, Any] = model.state_dict()
    return weights


def write_folder(
    folder: Path, model_cfg: dict[str, Any] = TINY, preprocess_cfg: dict[str, Any] = PREPROCESSING, seed: int = 0
) -> Path:
    """Write a model as open_clip's `local-dir:` and its files on the Hugging Face Hub are laid out."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    weights = make_weights(model_cfg, seed)
    save_file(
        {key: tensor.contiguous().clone() for key, tensor in weights.items()}, folder / "open_clip_model.safetensors"
    )
    return folder
