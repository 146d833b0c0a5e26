"""`dreamsim`: how alike people find two pictures: layout, colours and what is shown, together."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgrec.embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from imgrec.embedders.devices import FLOAT32, Place, find_place, precision_of, precision_parameters
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.extras import DREAMSIM
from imgrec.embedders.machine import Machine
from imgrec.embedders.models.dreamsim_network import load_network
from imgrec.embedders.models.dreamsim_types import SIDE
from imgrec.embedders.models.store import find_model

if TYPE_CHECKING:
    import torch

SETTING = "dreamsim_type"
# What one thread of a CPU computes at once: fewer waste its matrix products, more leave threads without work sooner.
_IMAGES_AT_ONCE = 8


class DreamSimEmbedder(LearnedEmbedder):
    """DreamSim, of any type (Fu et al. 2023, https://arxiv.org/abs/2306.09344); `card` is that of a stored model.

    Squashed to 224 × 224 pixels; of each embedding its own mean is subtracted, as the library does by default
    (`normalize_embeds`). Its distance of two pictures is 1 - the cosine that we have.
    """

    def __init__(self, card: Mapping[str, Any], decode_min_side: int, precision: str = FLOAT32) -> None:
        self.spec = EmbedderSpec(
            name="dreamsim",
            version=1,
            dim=card["dim"],
            decode_min_side=decode_min_side,
            parameters={
                "weights": card["digest"],
                "side": SIDE,
                "resize": "squash, bicubic",
                "centred": True,
                **precision_parameters(precision),
            },
            licence="MIT",
            origin="https://github.com/ssundaram21/dreamsim",
        )
        self._card = card
        self._place = Place(precision=precision)
        self._network: Callable[[torch.Tensor], torch.Tensor] | None = None

    @classmethod
    def from_settings(cls, vector_settings: Mapping[str, Any], _models_dir: Path | None = None) -> "DreamSimEmbedder":
        if not isinstance(card := vector_settings.get(SETTING), Mapping):
            raise EmbedderParameterError("dreamsim has no model here: `imgrec ingest --modality dreamsim` chooses one")
        return cls(card, vector_settings["decode_min_side"], precision_of(vector_settings))

    def libraries(self, device: str) -> tuple[str, ...]:
        return DREAMSIM

    def load(self, machine: Machine) -> None:
        self.check_libraries(machine.device)
        self._place = find_place(machine.device, self._place.precision)
        self._network = _network(machine.models_root, self._card["name"], self._card["digest"], self._place.device)

    def prepare(self, pixels: Pixels) -> Prepared:
        # The library resizes pictures of uint8 too, so nothing is lost by handing those over.
        return np.array(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))

    def send(self, batch: Prepared) -> "torch.Tensor":
        return self._place.send(batch)

    def forward(self, batch: "torch.Tensor") -> Vectors:
        import torch

        if (network := self._network) is None:
            raise RuntimeError("load comes before forward")

        def embed(pictures: torch.Tensor) -> torch.Tensor:
            rows = network(pictures.permute(0, 3, 1, 2) / 255.0).float()
            return torch.nn.functional.normalize(rows - rows.mean(dim=1, keepdim=True), eps=0)

        return self._place.compute(embed, batch, _IMAGES_AT_ONCE)


@lru_cache(maxsize=1)  # 350 MB and more each
def _network(models_root: Path, name: str, digest: str, device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    model = find_model(models_root, name, digest)
    model.check()
    return load_network(model.folder, name, device)
