"""The worker: one chunk of images in, one shard per modality out. A cluster node runs this and nothing else."""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np

from imgrec.embedders.base import Embedder, Pixels, Prepared
from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import Chunk, read_chunk
from imgrec.embedders.work.faults import Like, Refused, plain_picture, prepare, prepared_like
from imgrec.embedders.work.forward import ForwardStage
from imgrec.embedders.work.keeping import Keeper, write_joined
from imgrec.embedders.work.outcome import ChunkOutcome
from imgrec.embedders.work.parts import Part
from imgrec.storage.errors import ImageChangedError, ImageError, ShardError
from imgrec.storage.machine.pool import map_batches, time_limit
from imgrec.storage.photos.decoding import PLAIN, decode, decoder_failure
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.pending import read_unchanged
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.shards import Failure, Shard, digest_of, read_shard, shard_path
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.storage.thumbnails.webp import thumbnail_of

# Small, so that all processes end together; large enough that handing them over costs nothing.
IMAGES_PER_PART = 8

logger = logging.getLogger(__name__)


def embed_chunk(
    chunk_path: Path,
    pool: Executor,
    in_flight: int,
    machine: Machine = Machine(),
    on_images: Callable[[int], None] = lambda count: None,
    window: int | None = None,
) -> ChunkOutcome:
    """Decode each image of a chunk once, embed it in every modality asked for, and write a shard per modality.

    The workers of `pool` decode, prepare for the learned embedders, and do all of the others; models run in this
    process meanwhile. At most `in_flight` parts of 8 images, or two forward passes' worth, are decoded ahead, and two
    passes under way, whatever the chunk's size; `on_images(count)` hears of every part that is done. An image that
    ends its worker, or hangs there, fails; no other does.

    What is done is kept beside the chunk every 256 images or 30 s, and on SystemExit; a later start on the same chunk
    goes on from there. With a `window`, no image is begun before those `window` images are kept that come before it:
    so it is known which ones were under way when the process ended.

    Raises:
        DeviceError: the device that models are to run on is not there; nothing was decoded.
        ModelFileError: the weights of a model are missing or damaged; nothing was decoded.
        EmbedderParameterError: this machine's code makes other vectors than the driver's (other version installed).
        EmbedderFailsError: an embedder fails on every picture; on some of them, those fail in its modality.
    """
    chunk = read_chunk(chunk_path)
    embedders = _checked_embedders(chunk)
    stage = ForwardStage(embedders, machine)
    in_flight = max(in_flight, 2 * -(-stage.images_wanted // IMAGES_PER_PART))
    keeper = Keeper(chunk_path)
    done = keeper.done
    if done:
        logger.info("%d of %d images were done before", len(done), len(chunk.pending))
        on_images(len(done))

    changed: list[str] = []

    def keep(fresh: Sequence[Part], on_disk: bool = True) -> None:
        _add_thumbnails(chunk, fresh)  # first, since what has vectors is not drawn again
        keeper.keep(_shards(embedders, fresh), on_disk)

    def blame(position: int, death: Exception) -> Part:
        error = decoder_failure(death, chunk.decode_timeout_s)
        return pool.submit(fail_image, chunk_path, position, error.status, str(error)).result()

    for positions in _windows(chunk, done, window):
        fresh: list[Part] = []
        batches = _batches(positions)
        try:
            for part in stage.finish(map_batches(pool, partial(embed_part, chunk_path), batches, in_flight, blame)):
                on_images(len(part.content_hashes) + len(part.failures) + len(part.changed))
                changed += part.changed
                fresh.append(part)
                if keeper.is_due(sum(len(one.content_hashes) + len(one.failures) for one in fresh)):
                    keep(fresh)
                    fresh = []
        except (KeyboardInterrupt, SystemExit):  # it is asked to end, and has the time for this
            keep(fresh)
            raise
        keep(fresh, on_disk=window is not None)
    for path in changed:
        logger.warning("%s changed since the scan: the next ingest takes it", printable(path))
    written = write_joined(chunk, keeper.shards)
    keeper.remove()
    failures = [one.content_hash for shard in written.values() for one in shard.failures if not one.of_one_modality]
    return ChunkOutcome(
        shards=tuple(written),
        embedded=len({content for shard in written.values() for content in shard.content_hashes}),
        failed=len(set(failures)),
        changed=tuple(changed),
    )


def is_embedded(chunk_path: Path) -> bool:
    """Whether the shards of a chunk are there and verify; then there is nothing left to compute."""
    chunk = read_chunk(chunk_path)
    content_hashes = [pending.content_hash for pending in chunk.pending]
    for modality, fingerprint in chunk.fingerprints.items():
        digest = digest_of(fingerprint, content_hashes)
        try:
            read_shard(shard_path(Path(chunk.shards_dir), modality, fingerprint, digest))
        except ShardError:
            return False
    return True


def embed_part(chunk_path: Path, positions: Sequence[int]) -> Part:
    """Embed some images of a chunk. Runs in a worker process, on one core."""
    chunk, embedders = _load(chunk_path)
    expected = _prepared_like(chunk_path)
    content_hashes: list[bytes] = []
    outcomes: dict[str, list[Prepared | Refused]] = {modality: [] for modality in embedders}
    failures: list[Failure] = []
    changed: list[str] = []
    thumbnails: dict[bytes, bytes] = {}
    for pending in map(chunk.pending.__getitem__, positions):
        try:
            data = read_unchanged(chunk.roots, pending, chunk.follow_links)
            with time_limit(chunk.decode_timeout_s):
                pixels = _decode(chunk, data)
        except ImageChangedError:
            changed.append(pending.path)
        except ImageError as error:
            failures.append(Failure(pending.content_hash, error.status, str(error)))
        else:
            content_hashes.append(pending.content_hash)
            if chunk.thumbnails_dir is not None:
                thumbnails[pending.content_hash] = thumbnail_of(pixels)
            for modality, embedder in embedders.items():
                outcomes[modality].append(prepare(embedder, expected[modality], pixels))
    part = Part(tuple(content_hashes), {}, tuple(failures), tuple(changed), thumbnails=thumbnails)
    for modality, embedder in embedders.items():
        part = part.with_rows(embedder, outcomes[modality])
    return part


def fail_image(chunk_path: Path, position: int, status: str, reason: str) -> Part:
    """Say why an image that ended its worker has no vector. Runs in a worker process.

    First another picture goes through the same code: where that ends the worker too, it was not the image's fault.
    """
    chunk, embedders = _load(chunk_path)
    _decode(chunk, PLAIN)
    part = Part((), {}, (Failure(chunk.pending[position].content_hash, status, reason),), ())
    for embedder in embedders.values():
        embedder.prepare(plain_picture())
        part = part.with_rows(embedder, ())
    return part


def _decode(chunk: Chunk, data: bytes) -> Pixels:
    settings = chunk.vector_settings
    return decode(data, settings["decode_min_side"], chunk.max_megapixels, profiles_of(settings))


@cache
def _load(chunk_path: Path) -> tuple[Chunk, dict[str, Embedder]]:
    _load.cache_clear()  # one chunk at a time is enough to remember
    cv2.setNumThreads(1)  # one process a core already
    chunk = read_chunk(chunk_path)
    return chunk, create_embedders(chunk.fingerprints, chunk.vector_settings, Path(chunk.models_dir))


@cache
def _prepared_like(chunk_path: Path) -> dict[str, Like | None]:
    _prepared_like.cache_clear()
    return {modality: prepared_like(embedder) for modality, embedder in _load(chunk_path)[1].items()}


def _checked_embedders(chunk: Chunk) -> dict[str, Embedder]:
    embedders = create_embedders(chunk.fingerprints, chunk.vector_settings, Path(chunk.models_dir))
    for modality, embedder in embedders.items():
        if embedder.spec.fingerprint != chunk.fingerprints[modality]:
            raise EmbedderParameterError(
                f"{modality} makes vectors of fingerprint {embedder.spec.fingerprint} here and of "
                f"{chunk.fingerprints[modality]} at the driver: install the same version on both"
            )
    return embedders


def _windows(chunk: Chunk, done: Collection[bytes], window: int | None) -> Iterator[Sequence[int]]:
    left = [position for position, pending in enumerate(chunk.pending) if pending.content_hash not in done]
    size = window or max(len(left), 1)
    for start in range(0, len(left), size):
        yield left[start : start + size]


def _batches(positions: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(positions), IMAGES_PER_PART):
        yield positions[start : start + IMAGES_PER_PART]


def _add_thumbnails(chunk: Chunk, parts: Sequence[Part]) -> None:
    if chunk.thumbnails_dir is not None:
        made = {content: small for part in parts for content, small in part.thumbnails.items()}
        ThumbnailStore(Path(chunk.thumbnails_dir)).add(made)


def _shards(embedders: Mapping[str, Embedder], parts: Sequence[Part]) -> dict[str, Shard]:
    """What came out of some images, by modality."""
    shards = {}
    for modality, embedder in embedders.items():
        content_hashes = tuple(content for part in parts for content in part.vectors(modality))
        failures = [failure for part in parts for failure in part.failures]
        failures += [failure for part in parts for failure in part.without_vector(embedder)]
        rows = [part.rows[modality][part.described(modality)] for part in parts]
        vectors = np.concatenate(rows) if rows else np.empty((0, embedder.spec.dim), np.float32)
        shards[modality] = Shard(modality, embedder.spec.fingerprint, content_hashes, vectors, tuple(failures))
    return shards
