"""Distorted copies of photos, made on the fly: is the original the nearest of all photos?"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgrec.embedders.base import Embedder
from imgrec.embedders.catalogue import WITHOUT_CHOICE, create_embedders
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.faults import Like, prepare, prepared_like
from imgrec.embedders.work.forward import ForwardStage
from imgrec.embedders.work.parts import Part
from imgrec.search.evaluation.distortions import COLLAGE, DISTORTIONS, OTHERS_IN_A_COLLAGE, distort
from imgrec.search.evaluation.engine import StoredVectors
from imgrec.search.evaluation.errors import EvaluationError
from imgrec.search.evaluation.exact import ROUNDING, Excluded, fuse, pair_scores, score_blocks
from imgrec.search.evaluation.sampling import draw, draw_gallery, same_contents
from imgrec.search.evaluation.weightings import Weighting
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.errors import ImageError
from imgrec.storage.library import Library
from imgrec.storage.machine.pool import map_batches, time_limit
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.probe import read_regular
from imgrec.storage.photos.profiles import profiles_of

# Photos are made this small first: distortions of larger ones would only take longer.
LONGEST_SIDE = 1_000
KINDS = len(DISTORTIONS)


@dataclass(frozen=True)
class CopySource:
    """A photo to make copies of, and those that its collage shows beside it: file names below the root, content."""

    image_id: int
    file: str
    content_hash: bytes
    others: tuple[str, ...]


@dataclass(frozen=True)
class Making:
    """How copies are made and embedded, for worker processes: the manifest's vector settings as JSON."""

    images_root: str
    follow_links: bool
    models_dir: str
    vector_settings: str
    modalities: tuple[str, ...]
    max_megapixels: float
    decode_timeout_s: float
    seed: int


@dataclass(frozen=True)
class Copies:
    """Copies of photos: `rows[modality]` is (photos × kinds, dim), the kinds of one photo in a row, zeros for none.

    `beside` has the three photos that each collage shows as well: (photos, 3) ids. `lost` photos could not be read.
    """

    photos: Ids
    beside: Ids
    rows: Mapping[str, Vectors]
    lost: int


@dataclass(frozen=True)
class CopyScores:
    """Which copies found their original, by weighting: (photos, kinds) each. `among` photos were searched."""

    photos: Ids
    lost: int
    among: int
    found: Mapping[str, NDArray[np.bool_]]


def make_copies(
    stored: StoredVectors,
    library: Library,
    photos: int,
    seed: int,
    pool: Executor,
    in_flight: int,
    limits: Mapping[str, float],
    machine: Machine,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Copies:
    """Make and embed the fourteen copies of a sample of photos; nothing of them is kept.

    The workers of `pool` decode, distort and prepare; models run in this process.

    Raises:
        EvaluationError: there are too few photos for a collage, or none can be read.
        EmbedderParameterError: this program makes other vectors than the indexes have.
    """
    sources, beside = _choose(stored, photos, seed)
    making = Making(
        library.images_root, library.follow_links, str(library.models_dir), json.dumps(stored.vector_settings),
        tuple(stored.modalities), limits["max_megapixels"], limits["decode_timeout_s"], seed,
    )  # fmt: skip
    embedders = _embedders(making)
    for name, embedder in embedders.items():
        if embedder.spec.fingerprint != stored.members[name].fingerprint:
            raise EvaluationError(
                f"the indexes were made by another version of {name} than this program has: run `imgrec ingest`"
            )
    stage, none = ForwardStage(embedders, machine), _no_copies(embedders)
    rows = {name: np.zeros((len(sources), KINDS, member.dim), np.float32) for name, member in stored.members.items()}
    made = np.zeros(len(sources), bool)
    begun = map_batches(
        pool, partial(embed_copies, making), ([source] for source in sources), in_flight, lambda source, death: none
    )
    for place, part in enumerate(stage.finish(begun)):
        made[place] = bool(part.content_hashes)
        for name in rows if made[place] else ():
            kinds = [DISTORTIONS.index(kind.decode()) for kind in part.taken(name)]
            described = part.described(name)
            rows[name][place, np.array(kinds, np.int64)[described]] = part.rows[name][described]
        on_progress(place + 1, len(sources))
    if not made.any():
        raise EvaluationError(
            f"none of {len(sources):,} photos could be read below {library.images_root}: are they still there?"
        )
    ids = np.array([source.image_id for source in sources], np.int64)
    flat = {name: found[made].reshape(-1, found.shape[-1]) for name, found in rows.items()}
    return Copies(ids[made], beside[made], flat, int((~made).sum()))


def embed_copies(making: Making, sources: Sequence[CopySource]) -> Part:
    """Make the copies of one photo, and do a worker's part of embedding them: a part without images if it is lost."""
    (source,) = sources
    embedders, expected = _worker_embedders(making)
    try:
        photo, *others = (_open(making, file) for file in (source.file, *source.others))
        if photo[1] != source.content_hash:
            return _no_copies(embedders)
    except (OSError, ImageError):
        return _no_copies(embedders)
    random = np.random.default_rng([making.seed, source.image_id])
    copies = distort(photo[0], [image for image, _ in others], random)
    pixels = [np.asarray(copies[kind]) for kind in DISTORTIONS]
    part = Part(tuple(kind.encode() for kind in DISTORTIONS), {}, (), ())
    for name, embedder in embedders.items():
        part = part.with_rows(embedder, [prepare(embedder, expected[name], one) for one in pixels])
    return part


def find_originals(
    stored: StoredVectors,
    copies: Copies,
    weightings: Sequence[Weighting],
    among: int,
    seed: int,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> CopyScores:
    """Say of each copy whether its original scores highest of at most `among` photos, by each weighting, exactly.

    Files of the original's content count as the original; what else a collage shows is left out.
    """
    everything = stored.live_ids(stored.modalities)
    gallery = draw_gallery(everything, np.unique(copies.photos), among, seed)
    originals = {name: np.repeat(found, KINDS, axis=0) for name, found in stored.of(copies.photos).items()}
    excluded = _excluded(stored, copies)
    best = {each.name: np.full(len(copies.photos) * KINDS, -np.inf, np.float32) for each in weightings}
    for ids, cosines in score_blocks(stored, gallery, copies.rows, on_progress):
        for each in weightings:
            scores = fuse(cosines, each.weights)
            excluded.apply(ids, scores)
            np.maximum(best[each.name], scores.max(axis=1), out=best[each.name])
    found = {}
    for each in weightings:
        own = pair_scores(copies.rows, originals, each.weights)
        says = np.logical_or.reduce([copies.rows[name].any(axis=1) for name in each.weights])
        found[each.name] = (says & (own >= best[each.name] - ROUNDING)).reshape(-1, KINDS)
    return CopyScores(copies.photos, copies.lost, len(gallery), found)


def _choose(stored: StoredVectors, photos: int, seed: int) -> tuple[list[CopySource], Ids]:
    ids = draw(stored.live_ids(stored.modalities), photos, seed)
    if len(ids) <= OTHERS_IN_A_COLLAGE:
        raise EvaluationError(
            f"{len(ids)} photos are too few for copies: a collage shows a photo and {OTHERS_IN_A_COLLAGE} others"
        )
    random = np.random.default_rng(seed)
    away = np.stack([1 + random.choice(len(ids) - 1, OTHERS_IN_A_COLLAGE, replace=False) for _ in ids])
    beside = ids[(np.arange(len(ids))[:, None] + away) % len(ids)]
    images, hashes = stored.registry.images(ids.tolist()), stored.registry.content_hashes(ids.tolist())
    sources = [
        CopySource(one, images[one].file_path, hashes[one], tuple(images[other].file_path for other in row))
        for one, row in zip(ids.tolist(), beside.tolist(), strict=True)
    ]
    return sources, beside


def _excluded(stored: StoredVectors, copies: Copies) -> Excluded:
    """The original and its equals, of each copy; and what a collage shows beside it."""
    photo, same = same_contents(stored.registry, copies.photos)
    rows = (photo[:, None] * KINDS + np.arange(KINDS)).ravel()
    place, shown = same_contents(stored.registry, copies.beside.ravel())
    collages = place // OTHERS_IN_A_COLLAGE * KINDS + DISTORTIONS.index(COLLAGE)
    return Excluded(np.concatenate([rows, collages]), np.concatenate([np.repeat(same, KINDS), shown]))


def _open(making: Making, file: str) -> tuple[Image.Image, bytes]:
    """Decode a photo as an ingest does, and make it small; also returns its content's hash."""
    data, _ = read_regular(Path(making.images_root) / file, making.follow_links)
    settings = json.loads(making.vector_settings)
    with time_limit(making.decode_timeout_s):
        pixels = decode(data, settings["decode_min_side"], making.max_megapixels, profiles_of(settings))
    image = Image.fromarray(pixels)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    return image, hashlib.sha256(data).digest()


def _embedders(making: Making) -> dict[str, Embedder]:
    settings = {**WITHOUT_CHOICE, **json.loads(making.vector_settings)}
    return create_embedders(making.modalities, settings, Path(making.models_dir))


@cache
def _worker_embedders(making: Making) -> tuple[dict[str, Embedder], dict[str, Like | None]]:
    cv2.setNumThreads(1)  # one process a core already
    embedders = _embedders(making)
    return embedders, {name: prepared_like(embedder) for name, embedder in embedders.items()}


def _no_copies(embedders: Mapping[str, Embedder]) -> Part:
    """What is left of a photo that could not be read."""
    part = Part((), {}, (), ())
    for embedder in embedders.values():
        part = part.with_rows(embedder, ())
    return part
