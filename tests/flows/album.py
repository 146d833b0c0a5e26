"""A folder of photos that changes at random, and what a library of it must hold: a plain dictionary."""

import hashlib
import io
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.pictures import real_pictures
from imgrec.embedders.catalogue import create_embedders
from imgrec.search.fusion import combine, default_indexes
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.opening import open_version
from imgrec.search.indexes.rescoring import SPARE, ExactScores, rescore
from imgrec.storage.errors import ImageError, ShardError
from imgrec.storage.photos.decoding import decode
from imgrec.storage.registry.index_rows import mirrored_segments
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_sizes
from imgrec.storage.shards import list_shards, read_shard

MODALITIES = ("color", "sift")
VECTOR_SETTINGS: dict[str, Any] = {
    "bins": [8, 8, 8],
    "decode_min_side": 448,
    "sift_codebook": "default",
    "precision": "float32",
    "cpu_runtime": "onnxruntime",
    "icc_profiles": "srgb",
}


class Album:
    """Photos below `root`, as they should be: `files` maps path → content."""

    def __init__(self, root: Path, seed: int, photos: int = 24) -> None:
        self.root = root
        self.random = Random(seed)
        self.files: dict[str, bytes] = {}
        self.add(photos - 3)
        self._write("broken.jpg", _photo(self.random)[:2_000])
        self._write("garbage.png", self.random.randbytes(500))
        self._write("sub/plain.png", _encoded(Image.new("RGB", (40, 30), "teal"), "PNG"))

    def add(self, count: int) -> None:
        for _ in range(count):
            folder = self.random.choice(["", "sub/"])
            self._write(f"{folder}{self.random.getrandbits(40):010x}.jpg", _photo(self.random))

    def change(self, keep: str = "") -> None:
        """Add, delete, move, copy, replace and swap some photos, but for `keep`."""
        self.add(3)
        first, second, third, fourth, fifth, sixth = self.random.sample(sorted(self.files.keys() - {keep}), 6)
        self._delete(first)
        self._write(f"sub/moved-{self.random.getrandbits(40):010x}.jpg", self._delete(second))
        self._write(f"copy-{self.random.getrandbits(40):010x}.jpg", self.files[third])
        self._write(fourth, _photo(self.random))
        swapped = self.files[fifth], self.files[sixth]
        self._write(sixth, swapped[0])
        self._write(fifth, swapped[1])

    def contents(self) -> set[bytes]:
        return set(self.files.values())

    def _write(self, name: str, content: bytes) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_bytes(content)
        self.files[name] = content

    def _delete(self, name: str) -> bytes:
        (self.root / name).unlink()
        return self.files.pop(name)


def digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@cache
def status_of(content: bytes) -> str:
    try:
        decode(content, VECTOR_SETTINGS["decode_min_side"], 256)
    except ImageError as error:
        return error.status
    return "ok"


@cache
def vector_of(modality: str, content: bytes) -> bytes | None:
    """The vector that this content has; None where it is no picture, or has nothing to say."""
    if status_of(content) != "ok":
        return None
    (row,) = _EMBEDDERS[modality].embed([decode(content, VECTOR_SETTINGS["decode_min_side"], 256)])
    return row.tobytes() if np.isfinite(row).all() else None


def in_shards(library: Path, modality: str) -> dict[bytes, bytes | None]:
    """What verified shards hold: content hash → vector, or None where there is a reason for none."""
    held: dict[bytes, bytes | None] = {}
    for path in list_shards(library / "shards", _SPECS[modality].fingerprint):
        try:
            shard = read_shard(path)
        except ShardError:
            continue
        held |= {failure.content_hash: None for failure in shard.failures}
        held |= {h: vector.tobytes() for h, vector in zip(shard.content_hashes, shard.vectors, strict=True)}
    return held


def to_embed(library: Path, album: Album) -> set[bytes]:
    """The contents that an ingest has to embed: all that have a vector which is in no shard."""
    held = {modality: in_shards(library, modality) for modality in MODALITIES}
    return {
        digest(content)
        for content in album.contents()
        for modality in MODALITIES
        if vector_of(modality, content) is not None and digest(content) not in held[modality]
    }


def check(library: Path, album: Album, ids: dict[int, bytes]) -> None:
    """Hold a library against its album, bit by bit; `ids` remembers which content each id had, for life."""
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        _check_images(registry, album, ids)
        for modality in MODALITIES:
            _check_vectors(library, registry, album, modality)
        for name in default_indexes(MODALITIES):
            _check_index(library, registry, name)
    assert not list(library.rglob(".tmp-*"))
    assert not list(library.rglob("*.damaged"))
    assert not (library / "chunks").exists()
    assert not (library / "lock.json").exists()


def _check_images(registry: Registry, album: Album, ids: dict[int, bytes]) -> None:
    connection = registry.connection
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    present = connection.execute("SELECT path, content_hash, status FROM images WHERE missing_since IS NULL").fetchall()
    assert sorted(present) == sorted(
        (path, digest(content), status_of(content)) for path, content in album.files.items()
    )
    assert connection.execute("SELECT count(*) FROM probes").fetchone() == (0,)
    now = dict(connection.execute("SELECT id, content_hash FROM images").fetchall())
    assert {image_id: now.get(image_id) for image_id in ids} == ids
    ids |= now


def _check_vectors(library: Path, registry: Registry, album: Album, modality: str) -> None:
    expected = {path: vector_of(modality, content) for path, content in album.files.items()}
    fingerprint = _SPECS[modality].fingerprint
    stored = registry.connection.execute(
        f"""SELECT path, vector FROM images JOIN {modality}_vectors ON image_id = id
            WHERE missing_since IS NULL AND fingerprint = ?""",
        (fingerprint,),
    )
    assert dict(stored.fetchall()) == {path: vector for path, vector in expected.items() if vector is not None}
    held = in_shards(library, modality)
    for content in album.contents():
        if status_of(content) == "ok":
            assert held[digest(content)] == vector_of(modality, content)
    on_disk = {str(path.relative_to(library / "shards")) for path in list_shards(library / "shards", fingerprint)}
    assert {path for path, _ in shard_sizes(registry, fingerprint)} == on_disk


def _check_index(library: Path, registry: Registry, name: str) -> None:
    folder = IndexFolder(library / "indexes", name)
    reader = open_version(folder)
    members = reader.manifest.members
    live = sorted({int(i) for m in members for i in registry.live_ids(m.modality, m.fingerprint)})
    parts = {}
    for member in members:
        found = registry.vectors(member.modality, member.fingerprint, live)
        parts[member.modality] = np.stack([found.get(i, np.zeros(member.dim, np.float32)) for i in live])
    vectors = combine(members, parts)
    k = min(10, len(live))
    exact = -np.sort(-(vectors @ vectors.T), axis=1)
    _, near = reader.search(vectors, k + SPARE, 64)
    scores, ids = rescore(ExactScores(registry, members), vectors, near, k)
    assert (scores >= exact[:, k - 1 : k] - 1e-6).mean() >= 0.99
    assert all(len(set(row)) == k for row in ids.tolist())
    assert {int(i) for i in reader.search(vectors[:1], len(live), 10_000)[1][0]} == set(live)
    named = {entry.name for entry in reader.manifest.segments}
    assert mirrored_segments(registry, name) == named
    kept = [folder.read_manifest(path.name) for path in (folder.root / "versions").iterdir()]
    assert len(kept) <= 2
    assert {path.name for path in (folder.root / "segments").iterdir()} == {
        entry.name for manifest in kept for entry in manifest.segments
    }


def _photo(random: Random) -> bytes:
    """A part of a real picture, as a small JPEG."""
    picture = _picture(random.choice(real_pictures()))
    left, top = (random.randrange(max(1, side - 160)) for side in picture.size)
    part = picture.crop((left, top, left + 160, top + 120))
    return _encoded(part, "JPEG", random.randrange(80, 95))


@cache
def _picture(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _encoded(picture: Image.Image, kind: str, quality: int = 90) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, quality=quality)
    return buffer.getvalue()


_EMBEDDERS = create_embedders(MODALITIES, VECTOR_SETTINGS)
_SPECS = {modality: embedder.spec for modality, embedder in _EMBEDDERS.items()}
