"""Which DreamSims there are, and which files each is made of. No torch here: status and search by id need this too."""

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "dreamsim."  # of the names in the store of models
SIDE = 224
HUB = "checkpoints/"  # where torch.hub puts what it downloads, below the library's cache folder
ADAPTER_CONFIG = "adapter_config.json"
# The library reads the first of these that is there.
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")

# backbone → its file, as it lies in a cache folder that the library has filled. The library also wants to see
# dino_vitb16_pretrain.pth and dinov2_vitb14_pretrain.pth there, which hold nothing that an embedding needs.
BACKBONES: Mapping[str, str] = {
    "clip_vitb16": "clip_vitb16_pretrain.pth.tar",
    "clip_vitb32": "clip_vitb32_pretrain.pth.tar",
    "dino_vitb16": f"{HUB}dino_vitbase16_pretrain.pth",
    "dinov2_vitb14": f"{HUB}dinov2_vitb14_pretrain.pth",
    "open_clip_vitb16": "open_clip_vitb16_pretrain.pth.tar",
    "open_clip_vitb32": "open_clip_vitb32_pretrain.pth.tar",
    "synclr_vitb16": "synclr_vit_b_16.pth",
}


@dataclass(frozen=True)
class DreamSimType:
    """A fine-tuned backbone, or several of which the embeddings are joined.

    DreamSim's licence is MIT, as are those of CLIP and OpenCLIP.
    """

    backbones: tuple[str, ...]
    dim: int
    adapter: str
    licence: str = "MIT"

    @property
    def adapter_weights(self) -> tuple[str, ...]:
        """The files of which one is read."""
        return tuple(f"{self.adapter}/{name}" for name in ADAPTER_WEIGHTS)

    @property
    def files(self) -> tuple[str, ...]:
        """All others that are read."""
        return (*(BACKBONES[name] for name in self.backbones), f"{self.adapter}/{ADAPTER_CONFIG}")


# From https://github.com/ssundaram21/dreamsim, dreamsim/config.py and README.
TYPES: Mapping[str, DreamSimType] = {
    "clip_vitb32": DreamSimType(("clip_vitb32",), 512, "clip_vitb32_single_lora"),
    "dino_vitb16": DreamSimType(("dino_vitb16",), 768, "dino_vitb16_single_lora", "MIT, DINO: Apache-2.0"),
    "dinov2_vitb14": DreamSimType(("dinov2_vitb14",), 768, "dinov2_vitb14_single_lora", "MIT, DINOv2: Apache-2.0"),
    "ensemble": DreamSimType(
        ("dino_vitb16", "clip_vitb16", "open_clip_vitb16"), 1_792, "ensemble_lora", "MIT, DINO: Apache-2.0"
    ),
    "open_clip_vitb32": DreamSimType(("open_clip_vitb32",), 512, "open_clip_vitb32_single_lora"),
    "synclr_vitb16": DreamSimType(("synclr_vitb16",), 768, "synclr_vitb16_single_lora", "MIT, SynCLR: its own"),
}
