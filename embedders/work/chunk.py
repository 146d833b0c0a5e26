"""A chunk: some contents that wait for their vectors, as a file that a worker can read on any machine."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.photos.pending import Pending
from imgrec.storage.photos.roots import Roots


class WrittenChunk(NamedTuple):
    """A chunk file, its modalities, how many images it asks for, and their size on disk.

    Where the modalities of an image are in chunks of their own, the image `counts` in one of them.
    """

    path: Path
    modalities: tuple[str, ...]
    images: int
    bytes: int
    counts: bool = True


@dataclass(frozen=True)
class Chunk:
    """What a worker needs to know, and nothing that depends on the registry or on the machine that it runs on.

    `images_roots` maps the names of roots to their folders, and `fingerprints` each modality asked for to the
    fingerprint the driver expects of it. Thumbnails are made on the way where `thumbnails_dir` is given.
    """

    images_roots: Mapping[str, str]
    shards_dir: str
    models_dir: str
    fingerprints: Mapping[str, str]
    vector_settings: Mapping[str, Any]
    max_megapixels: float
    decode_timeout_s: float
    pending: tuple[Pending, ...]
    follow_links: bool = False
    thumbnails_dir: str | None = None

    @property
    def roots(self) -> Roots:
        return Roots(self.images_roots)

    @property
    def digest(self) -> str:
        """32 hex digits over what is computed: contents and fingerprints, not paths."""
        digest = hashlib.sha256(json.dumps(sorted(self.fingerprints.items())).encode())
        for content_hash in sorted(entry.content_hash for entry in self.pending):
            digest.update(content_hash)
        return digest.hexdigest()[:32]

    def write(self, folder: Path) -> Path:
        path = folder / f"{self.digest}.json"
        facts = asdict(self) | {"pending": [(p.content_hash.hex(), *p[1:]) for p in self.pending]}
        write_atomic(path, json.dumps(facts).encode())
        return path

    def written(self, path: Path, counts: bool = True) -> WrittenChunk:
        """Say what whoever has it embedded needs to know."""
        size = sum(entry.size for entry in self.pending)
        return WrittenChunk(path, tuple(self.fingerprints), len(self.pending), size, counts)


def read_chunk(path: Path) -> Chunk:
    facts = json.loads(path.read_bytes())
    pending: Sequence[Sequence[Any]] = facts.pop("pending")
    entries = tuple(Pending(bytes.fromhex(digest), *rest) for digest, *rest in pending)
    return Chunk(**facts, pending=entries)
