"""What a worker process does of many query pictures: read, decode, prepare for models, and embed what needs none."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from imgrec.embedders.base import Embedder, Prepared
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.work.faults import Like, Refused, plain_picture, prepare, prepared_like
from imgrec.embedders.work.parts import Part
from imgrec.search.errors import QueryError
from imgrec.search.pictures import Picture, read_picture
from imgrec.search.recipes import Recipe
from imgrec.storage.errors import ImageError
from imgrec.storage.machine.pool import time_limit
from imgrec.storage.photos.decoding import PLAIN, decode
from imgrec.storage.photos.paths import printable


class Asked(NamedTuple):
    """A query picture, its number among them, and what it is called."""

    number: int
    name: str
    picture: Picture


@dataclass(frozen=True)
class QueryPart(Part):
    """A part whose pictures are known by their `key_of` number; `errors` says of those that have no key why not."""

    numbers: tuple[int, ...] = ()
    errors: Mapping[int, str] = field(default_factory=dict)
    digests: Mapping[int, bytes] = field(default_factory=dict)


def key_of(number: int) -> bytes:
    return number.to_bytes(8, "big")


def embed_pictures(recipe: Recipe, some: Sequence[Asked]) -> QueryPart:
    """Embed some query pictures; the SHA-256 of each that has bytes goes into `digests`."""
    embedders, expected = _load(recipe)
    keys: list[bytes] = []
    outcomes: dict[str, list[Prepared | Refused]] = {modality: [] for modality in embedders}
    errors: dict[int, str] = {}
    digests: dict[int, bytes] = {}
    for number, name, picture in some:
        try:
            data = read_picture(picture, name)
            with time_limit(recipe.decode_timeout_s):
                pixels = data if isinstance(data, np.ndarray) else _decode(recipe, data)
        except QueryError as error:
            errors[number] = str(error)
        except ImageError as error:
            errors[number] = f"query {printable(name)}: {error}"
        else:
            keys.append(key_of(number))
            if isinstance(data, bytes):
                digests[number] = hashlib.sha256(data).digest()
            for modality, embedder in embedders.items():
                outcomes[modality].append(prepare(embedder, expected[modality], pixels))
    numbers = tuple(asked.number for asked in some)
    part = QueryPart(tuple(keys), {}, (), (), numbers=numbers, errors=errors, digests=digests)
    for modality, embedder in embedders.items():
        part = part.with_rows(embedder, outcomes[modality])
    return part


def fail_picture(recipe: Recipe, asked: Asked, reason: str) -> QueryPart:
    """Say why a picture that ended its worker has no vector, after another one went through the same code."""
    embedders, _ = _load(recipe)
    _decode(recipe, PLAIN)
    error = f"query {printable(asked.name)}: {reason}"
    part = QueryPart((), {}, (), (), numbers=(asked.number,), errors={asked.number: error})
    for embedder in embedders.values():
        embedder.prepare(plain_picture())
        part = part.with_rows(embedder, ())
    return part


def _decode(recipe: Recipe, data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode(data, recipe.decode_min_side, recipe.max_megapixels, recipe.icc_profiles)


@cache
def _load(recipe: Recipe) -> tuple[dict[str, Embedder], dict[str, Like | None]]:
    _load.cache_clear()
    cv2.setNumThreads(1)  # one process a core already
    embedders = {
        name: create_embedder(name, settings, Path(recipe.models_dir))
        for name, settings in json.loads(recipe.settings).items()
    }
    return embedders, {name: prepared_like(embedder) for name, embedder in embedders.items()}
