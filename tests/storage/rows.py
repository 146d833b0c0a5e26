"""Rows, vectors and shards without any photo."""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Failure, Shard, digest_of, shard_path, write_shard

COLOR, SIFT = "c0102030405060708"[:16], "5" * 16
DIM = 4


def hash_of(number: int) -> bytes:
    """The content hash of a content that is only a number."""
    return hashlib.sha256(str(number).encode()).digest()


def vector_of(number: int) -> NDArray[np.float32]:
    """(DIM,) float32, L2 = 1; another one for every number."""
    vector = np.random.default_rng(number).standard_normal(DIM).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def register(registry: Registry) -> None:
    """Make the registry know two embedders, `color` and `sift`."""
    registry.register_fingerprint(COLOR, "color", DIM, {})
    registry.register_fingerprint(SIFT, "sift", DIM, {})


def add_image(registry: Registry, number: int, name: str | None = None, status: str = "ok") -> int:
    """Insert an image with the content `number`; return its id."""
    cursor = registry.connection.execute(
        """INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status)
           VALUES (?, 1, 2, 3, 4, ?, ?)""",
        (name or f"{number}.png", hash_of(number), status),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def make_shard(
    *numbers: int, modality: str = "color", fingerprint: str = COLOR, failures: tuple[Failure, ...] = ()
) -> Shard:
    return Shard(
        modality=modality,
        fingerprint=fingerprint,
        content_hashes=tuple(map(hash_of, numbers)),
        vectors=np.stack([vector_of(n) for n in numbers]) if numbers else np.empty((0, DIM), np.float32),
        failures=failures,
    )


def write(shards_dir: Path, shard: Shard) -> Path:
    """Write a shard where a worker would."""
    hashes = [*shard.content_hashes, *(failure.content_hash for failure in shard.failures)]
    path = shard_path(shards_dir, shard.modality, shard.fingerprint, digest_of(shard.fingerprint, hashes))
    write_shard(path, shard)
    return path
