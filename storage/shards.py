"""Shards: Parquet files of vectors that say themselves what they hold.

Columns: `content_hash` (32 bytes) and `vector` (fixed-size list of float32). The file's metadata carry format,
modality, fingerprint, the contents that got no vector (status and reason), and a checksum over all of it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imgrec.storage.errors import ShardError
from imgrec.storage.machine.atomic import atomic_path
from imgrec.storage.machine.os_errors import cannot_be_opened

FORMAT = "imgrec-shard-1"
# A picture that is fine and of which a modality has nothing to say: no failure of the image.
NO_FEATURES = "no_features"
# A picture that is fine and of which a model makes NaN or infinity: none either.
NOT_FINITE = "not_finite"
# A picture that is fine and on which an embedder fails.
EMBEDDER_FAILED = "embedder_failed"
# Of these, what is told as a failure.
FAILED_IN_ONE = (NOT_FINITE, EMBEDDER_FAILED)
OF_ONE_MODALITY = (NO_FEATURES, *FAILED_IN_ONE)
# A content hash is a SHA-256.
HASH_BYTES = 32
_METADATA_KEY = b"imgrec"


@dataclass(frozen=True)
class Failure:
    """A content that got no vector."""

    content_hash: bytes
    status: str
    reason: str

    @property
    def of_one_modality(self) -> bool:
        """Whether the picture itself is fine."""
        return self.status in OF_ONE_MODALITY


@dataclass(frozen=True)
class Shard:
    """One modality's outcome for some contents: row i of `vectors`, (N, dim) float32, is of `content_hashes[i]`."""

    modality: str
    fingerprint: str
    content_hashes: tuple[bytes, ...]
    vectors: NDArray[np.float32]
    failures: tuple[Failure, ...] = ()

    @property
    def contents(self) -> tuple[bytes, ...]:
        """All contents that it has an outcome for."""
        return (*self.content_hashes, *(failure.content_hash for failure in self.failures))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 (hex) over everything the shard says; computed once, so do not change `vectors` after it."""
        digest = hashlib.sha256(json.dumps([FORMAT, self.modality, self.fingerprint, self.vectors.shape]).encode())
        digest.update(b"".join(self.content_hashes))
        digest.update(np.ascontiguousarray(self.vectors, "<f4").data)
        digest.update(json.dumps(_encode(self.failures)).encode())
        return digest.hexdigest()


class Contents(NamedTuple):
    """The contents that a shard has an outcome for."""

    embedded: list[bytes]
    failed: list[bytes]


def shard_path(shards_dir: Path, modality: str, fingerprint: str, digest: str) -> Path:
    return shards_dir / modality / fingerprint / f"{digest}.parquet"


def digest_of(fingerprint: str, content_hashes: Sequence[bytes]) -> str:
    """A name (32 hex digits) for the outcome of embedding these contents, whatever their order."""
    digest = hashlib.sha256(fingerprint.encode())
    for content_hash in sorted(content_hashes):
        digest.update(content_hash)
    return digest.hexdigest()[:32]


def write_shard(path: Path, shard: Shard) -> str:
    """Write a shard as one step; return its checksum."""
    checksum = shard.checksum
    facts = {
        "format": FORMAT,
        "modality": shard.modality,
        "fingerprint": shard.fingerprint,
        "checksum": checksum,
        "failures": _encode(shard.failures),
    }
    flat = pa.array(np.ascontiguousarray(shard.vectors, np.float32).reshape(-1))
    table = pa.table(
        {
            "content_hash": pa.array(shard.content_hashes, pa.binary(HASH_BYTES)),
            "vector": pa.FixedSizeListArray.from_arrays(flat, shard.vectors.shape[1]),
        }
    ).replace_schema_metadata({_METADATA_KEY: json.dumps(facts)})
    with atomic_path(path) as temporary:
        # Vectors do not compress and a dictionary of them only costs time.
        pq.write_table(table, temporary, compression="none", use_dictionary=False, write_statistics=False)
    return checksum


def read_shard(path: Path) -> Shard:
    """Read and verify a shard.

    Raises:
        ShardError: it is damaged, no shard, or does not hold what its checksum says.
        OSError: the machine refuses to read it, which says nothing about the shard.
    """
    with _naming_damage(path):
        with pq.ParquetFile(path) as file:  # read_table would import pandas
            table = file.read()
        facts = _facts(table.schema, path)
        column = table.column("vector").combine_chunks()
        flat = np.asarray(np.from_dlpack(column.flatten()), np.float32)  # to_numpy would import pandas too
        vectors = flat.reshape(len(column), column.type.list_size)
        shard = Shard(
            modality=facts["modality"],
            fingerprint=facts["fingerprint"],
            content_hashes=tuple(table.column("content_hash").to_pylist()),
            vectors=vectors,
            failures=_decode(facts["failures"]),
        )
        intact = shard.checksum == facts["checksum"]
    if not intact:
        raise ShardError(f"shard {path} is damaged: its checksum does not match what it holds")
    return shard


def read_contents(path: Path) -> Contents:
    """Read which contents a shard has an outcome for, without its vectors, and so without verifying it.

    Raises:
        ShardError: it is damaged, or no shard.
        OSError: the machine refuses to read it, which says nothing about the shard.
    """
    with _naming_damage(path), pq.ParquetFile(path) as file:
        embedded: list[bytes] = file.read(columns=["content_hash"]).column("content_hash").to_pylist()
        failures = _decode(_facts(file.schema_arrow, path)["failures"])
    return Contents(embedded, [failure.content_hash for failure in failures])


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, ShardError) or cannot_be_opened(error):
            raise
        raise ShardError(f"shard {path} is damaged ({' '.join(str(error).split())[:200]})") from error


def list_shards(shards_dir: Path, fingerprint: str | None = None) -> Iterator[Path]:
    """Yield the shard files below `shards_dir`, in a fixed order."""
    pattern = f"*/{fingerprint or '*'}/*.parquet"
    yield from sorted(path for path in shards_dir.glob(pattern) if not path.name.startswith("."))


def _facts(schema: pa.Schema, path: Path) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(_METADATA_KEY)
    facts = json.loads(raw) if raw else {}
    if facts.get("format") != FORMAT:
        raise ShardError(f"{path} is no shard of format {FORMAT}: move it out of the library")
    return dict(facts)


def _encode(failures: Sequence[Failure]) -> list[list[str]]:
    return [[failure.content_hash.hex(), failure.status, failure.reason] for failure in failures]


def _decode(failures: list[list[str]]) -> tuple[Failure, ...]:
    return tuple(Failure(bytes.fromhex(digest), status, reason) for digest, status, reason in failures)
