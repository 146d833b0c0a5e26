"""`openclip`: what a picture shows, as a CLIP model sees it, and as words say it."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imgrec.embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from imgrec.embedders.devices import FLOAT32, Place, find_place, precision_parameters
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.extras import OPENCLIP
from imgrec.embedders.machine import Machine
from imgrec.embedders.models.openclip_files import load_model
from imgrec.embedders.models.store import find_model

if TYPE_CHECKING:
    import torch

SETTING = "openclip_model"
_RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# A picture that is resized to more than this many times the pixels that are kept is cut before.
_MAX_WASTE = 32


class OpenClipEmbedder(LearnedEmbedder):
    """A model of open_clip: a tower for images, one for text (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

    `card` is what the store of models says of it (`StoredModel.card`).
    """

    def __init__(self, card: Mapping[str, Any], decode_min_side: int, precision: str = FLOAT32) -> None:
        self._card = card
        self._place = Place(precision=precision)
        self._images: Callable[[Any], Any] | None = None
        self._folder: Path | None = None
        self.spec = EmbedderSpec(
            name="openclip",
            version=1,
            dim=card["dim"],
            decode_min_side=decode_min_side,
            parameters={
                **{key: value for key, value in card.items() if key not in ("name", "dim")},
                **precision_parameters(precision),
            },
            licence="that of the model: `imgrec models list`",
            origin=f"open_clip, {card['name']}",
        )

    @classmethod
    def from_settings(cls, vector_settings: Mapping[str, Any], _models_dir: Path | None = None) -> "OpenClipEmbedder":
        if not isinstance(card := vector_settings.get(SETTING), Mapping):
            raise EmbedderParameterError("openclip has no model here: `imgrec ingest --modality openclip` chooses one")
        if (side := max(card["size"])) > (decoded := vector_settings["decode_min_side"]):
            raise EmbedderParameterError(
                f"{card['name']} sees {side} pixels a side, and JPEGs are decoded to as few as {decoded}: "
                f"--decode-min-side {side} (for a library that is there by `imgrec reembed`, first)"
            )
        return cls(card, vector_settings["decode_min_side"], vector_settings.get("precision", FLOAT32))

    def libraries(self, device: str) -> tuple[str, ...]:
        return OPENCLIP

    def load(self, machine: Machine) -> None:
        self.check_libraries(machine.device)
        self._place = find_place(machine.device, self._place.precision)
        self._folder = find_model(machine.models_root, self._card["name"], self._card["digest"]).folder
        self._images = _image_tower(self._folder, self._card["digest"], self._place.device)

    def prepare(self, pixels: Pixels) -> Prepared:
        """Resize and crop as open_clip's `image_transform` does for inference, to the same bytes."""
        picture = Image.fromarray(pixels)
        height, width = self._card["size"]
        resampling = _RESAMPLING[self._card["interpolation"]]
        mode = self._card["resize_mode"]
        if mode == "squash":
            return np.array(picture.resize((width, height), resampling))
        if mode == "longest":
            scale = max(picture.height / height, picture.width / width)
            sides = (max(1, round(side / scale)) for side in picture.size)  # a thin one keeps a pixel
            resized = picture.resize(tuple(sides), resampling)
            return _pad(resized, width, height, self._card["fill_color"])
        if height == width:
            size = _shortest_side(picture.width, picture.height, width)
        else:  # open_clip takes bicubic here, whatever is configured
            scale = min(picture.height / height, picture.width / width)
            size, resampling = (round(picture.width / scale), round(picture.height / scale)), _RESAMPLING["bicubic"]
        return _crop(picture, size, width, height, resampling)

    def send(self, batch: Prepared) -> "torch.Tensor":
        return self._place.send(batch)

    def forward(self, batch: "torch.Tensor") -> Vectors:
        import torch

        tower = self._images
        if tower is None:
            raise RuntimeError("load comes before forward")
        mean, std = (torch.tensor(self._card[key], device=self._place.device).view(3, 1, 1) for key in ("mean", "std"))

        def embed(pictures: torch.Tensor) -> torch.Tensor:
            rows = tower(pictures.permute(0, 3, 1, 2).float().div(255).sub(mean).div(std))
            return torch.nn.functional.normalize(rows.float())

        return self._place.compute(embed, batch)

    def embed_texts(self, texts: Sequence[str], machine: Machine) -> Vectors:
        """Embed N > 0 texts into (N, dim) float32 rows of L2 norm 1, to be compared with pictures.

        Text beyond the model's context length is cut off, as its tokenizer does it.

        Raises:
            EmbedderParameterError: this model's tokenizer is not inside of open_clip.
            MissingExtraError: torch or open_clip is not installed.
            ModelFileError: the model is missing or damaged.
        """
        self.check_libraries(machine.device)
        import torch

        if not self._card["text"]:
            raise EmbedderParameterError(
                f"{self._card['name']} reads text by a tokenizer of another library (transformers): search by picture"
            )
        place = find_place(machine.device, self._place.precision)
        folder = find_model(machine.models_root, self._card["name"], self._card["digest"]).folder
        tokenize, tower = _text_tower(folder, self._card["digest"], place.device)
        tokens = tokenize(list(texts)).to(place.device)
        with place.computing():
            return place.fetch(torch.nn.functional.normalize(tower(tokens).float()))


@lru_cache(maxsize=2)  # gigabytes each: a library's, and that of the one it is compared with
def _image_tower(folder: Path, digest: str, device: str) -> "Callable[[torch.Tensor], torch.Tensor]":
    """The image half alone: normalised pictures (N, 3, height, width) → features (N, dim)."""
    model = _verified(folder, digest)
    if hasattr(model, "text_decoder"):  # CoCa's towers are called by the model
        return model.to(device).encode_image  # type: ignore[no-any-return]
    return model.visual.to(device)  # type: ignore[no-any-return]


@lru_cache(maxsize=2)
def _text_tower(folder: Path, digest: str, device: str) -> "tuple[Callable[[list[str]], torch.Tensor], Any]":
    """The model's tokenizer, and the text half: tokens (N, context length) → features (N, dim)."""
    import open_clip

    model = _verified(folder, digest)
    if not hasattr(model, "text_decoder"):
        model.visual = None
    return open_clip.get_tokenizer(f"local-dir:{folder}"), model.to(device).encode_text


def _verified(folder: Path, digest: str) -> Any:
    find_model(folder.parent, folder.name, digest).check()
    return load_model(folder)


def _shortest_side(width: int, height: int, side: int) -> tuple[int, int]:
    """What torchvision's Resize(side) makes of a picture."""
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def _crop(
    picture: Image.Image, size: tuple[int, int], width: int, height: int, resampling: Image.Resampling
) -> Prepared:
    """Resize to `size`, and cut `width` × `height` out of the middle, rounded as torchvision rounds."""
    left, top = round((size[0] - width) / 2.0), round((size[1] - height) / 2.0)
    box = (left, top, left + width, top + height)
    if size[0] * size[1] > _MAX_WASTE * width * height:  # off by a grey level here and there
        x, y = picture.width / size[0], picture.height / size[1]
        return np.array(picture.resize((width, height), resampling, (box[0] * x, box[1] * y, box[2] * x, box[3] * y)))
    return np.array(picture.resize(size, resampling).crop(box))


def _pad(picture: Image.Image, width: int, height: int, fill: int) -> Prepared:
    padded = Image.new("RGB", (width, height), (fill,) * 3)
    padded.paste(picture, ((width - picture.width) // 2, (height - picture.height) // 2))
    return np.array(padded)
