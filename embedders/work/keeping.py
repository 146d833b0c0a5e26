"""What of a chunk is done already, kept beside it, so that whoever starts on it next goes on from there."""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.work.chunk import Chunk, read_chunk
from imgrec.storage.errors import ShardError
from imgrec.storage.shards import Failure, Shard, digest_of, read_shard, shard_path, write_shard

# What is lost when the work ends at any moment: so many images, or seconds, whichever is less.
IMAGES_KEPT_AT_ONCE = 256
KEEP_EVERY_S = 30.0
# A fast machine would do little else than flush files.
KEEP_AT_MOST_EVERY_S = 1.0


class Keeper:
    """The parts of one chunk; `shards[modality]` are those that there are.

    A part is a shard of each modality, and counts when all of them are there and verify.
    """

    def __init__(self, chunk_path: Path) -> None:
        self._chunk_path = chunk_path
        self._folder = parts_folder(chunk_path)
        self._modalities = tuple(read_chunk(chunk_path).fingerprints)
        kept = [shards for number in self._numbers() if (shards := self._read(number)) is not None]
        self._next = max(self._numbers(), default=-1) + 1
        self._kept_s = time.monotonic()
        self.shards: dict[str, list[Shard]] = {name: [part[name] for part in kept] for name in self._modalities}

    @property
    def done(self) -> set[bytes]:
        """The contents that have an outcome in all modalities."""
        outcomes = [{content for shard in shards for content in shard.contents} for shards in self.shards.values()]
        return set.intersection(*outcomes) if outcomes else set()

    def is_due(self, images: int) -> bool:
        """Whether so many images since the last part are to become one."""
        passed_s = time.monotonic() - self._kept_s
        if not images or passed_s < KEEP_AT_MOST_EVERY_S:
            return False
        return passed_s >= KEEP_EVERY_S or images >= IMAGES_KEPT_AT_ONCE

    def keep(self, shards: Mapping[str, Shard], on_disk: bool = True) -> None:
        """Add a part; the last one need not be written, since all are joined right after it."""
        for modality, shard in shards.items():
            if on_disk:
                write_shard(self._path(self._next, modality), shard)
            self.shards[modality].append(shard)
        self._next += 1
        self._kept_s = time.monotonic()

    def fail(self, content_hash: bytes, status: str, reason: str) -> None:
        """Write, as a part, why one image has no vector in any modality of the chunk."""
        chunk, failures = read_chunk(self._chunk_path), (Failure(content_hash, status, reason),)
        embedders = create_embedders(chunk.fingerprints, chunk.vector_settings, Path(chunk.models_dir))
        self.keep(
            {
                name: Shard(name, chunk.fingerprints[name], (), np.empty((0, embedder.spec.dim), np.float32), failures)
                for name, embedder in embedders.items()
            }
        )

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _numbers(self) -> list[int]:
        return sorted({int(path.name.partition("-")[0]) for path in self._folder.glob("[0-9]*-*.parquet")})

    def _read(self, number: int) -> dict[str, Shard] | None:
        try:
            return {modality: read_shard(self._path(number, modality)) for modality in self._modalities}
        except (ShardError, FileNotFoundError):  # ended while it was written
            return None

    def _path(self, number: int, modality: str) -> Path:
        return self._folder / f"{number:06}-{modality}.parquet"


def parts_folder(chunk_path: Path) -> Path:
    return chunk_path.with_suffix(".parts")


def join(shards: Sequence[Shard]) -> Shard | None:
    """Join the outcomes of one modality; None if there are none."""
    held = [shard for shard in shards if shard.contents]
    if not held:
        return None
    return Shard(
        held[0].modality,
        held[0].fingerprint,
        tuple(content for shard in held for content in shard.content_hashes),
        np.concatenate([shard.vectors for shard in held]),
        tuple(failure for shard in held for failure in shard.failures),
    )


def write_joined(chunk: Chunk, by_modality: Mapping[str, Sequence[Shard]]) -> dict[Path, Shard]:
    """Write the outcomes of a chunk into the library, a shard a modality."""
    joined = [shard for shards in by_modality.values() if (shard := join(shards)) is not None]
    written = {
        shard_path(Path(chunk.shards_dir), one.modality, one.fingerprint, digest_of(one.fingerprint, one.contents)): one
        for one in joined
    }
    for path, shard in written.items():
        write_shard(path, shard)
    return written


def salvage(chunk_paths: Iterable[Path]) -> int:
    """Bring into the library what is kept of chunks that nobody works on any more; return how many contents."""
    saved = 0
    for chunk_path in chunk_paths:
        if parts_folder(chunk_path).is_dir():
            keeper = Keeper(chunk_path)
            write_joined(read_chunk(chunk_path), keeper.shards)
            saved += len(keeper.done)
            keeper.remove()
    return saved
