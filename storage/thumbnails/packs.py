"""A pack: the thumbnails of many contents in one file, written once.

    32 bytes   "imgrec-thumbnails-1", then zeros
    32 bytes   SHA-256 of all that follows
     8 bytes   number of thumbnails, little-endian, as all numbers
    32 each    content hashes, ascending
     8 each    where each thumbnail begins, from the first one on, and where the last one ends
     …         the thumbnails, WebP

A library of ten million photos has some 170 of them. A reader keeps 8 bytes of each content hash in memory, and reads
the rest when it is asked for it: what is mapped ends the process where a network disk loses it.
"""

import hashlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import ThumbnailsDamagedError
from imgrec.storage.machine.atomic import atomic_path
from imgrec.storage.shards import HASH_BYTES

SUFFIX = ".pack"
_MAGIC = b"imgrec-thumbnails-1".ljust(32, b"\0")
_HEAD = struct.Struct("<32s32sQ")
_READ_BYTES = 2**20

Prefixes = NDArray[np.uint64]


def write_pack(folder: Path, thumbnails: Mapping[bytes, bytes]) -> Path:
    """Write thumbnails by content hash as one step; the same contents have the same name."""
    hashes = sorted(thumbnails)
    ends = np.cumsum([0, *(len(thumbnails[content]) for content in hashes)], dtype="<u8")
    body = b"".join([*hashes, ends.tobytes(), *(thumbnails[content] for content in hashes)])
    path = folder / f"{hashlib.sha256(b''.join(hashes)).hexdigest()[:32]}{SUFFIX}"
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(_HEAD.pack(_MAGIC, hashlib.sha256(body).digest(), len(hashes)))
        file.write(body)
    return path


def prefixes_of(contents: Sequence[bytes]) -> Prefixes:
    """The first 8 bytes of content hashes, as numbers that sort as they do."""
    joined = np.frombuffer(b"".join(contents), ">u8").reshape(len(contents), HASH_BYTES // 8)
    return joined[:, 0].astype(np.uint64)


class Pack:
    """An open pack, for any number of threads.

    Raises:
        ThumbnailsDamagedError: it is no pack, or not as long as it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(self._file, _HEAD.size, 0)
        magic, self._sha256, self.count = _HEAD.unpack(head) if len(head) == _HEAD.size else (b"", b"", 0)
        self._begin = _HEAD.size + self.count * HASH_BYTES
        self.bytes = os.fstat(self._file).st_size
        if magic != _MAGIC or self.bytes < self._begin + 8 or self.bytes != self._data_at + self._ends(self.count)[0]:
            raise self._damaged("it is cut off, or another file")
        self.prefixes = np.empty(self.count, np.uint64)
        place = 0
        for part in self.hashes():
            self.prefixes[place : place + len(part)] = prefixes_of(part)
            place += len(part)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    @property
    def _data_at(self) -> int:
        return int(self._begin + 8 * (self.count + 1))

    def hashes(self) -> Iterator[list[bytes]]:
        """Yield the content hashes, ascending, many at a time."""
        per_read = _READ_BYTES // HASH_BYTES
        for start in range(0, self.count, per_read):
            data = os.pread(self._file, HASH_BYTES * min(per_read, self.count - start), _HEAD.size + HASH_BYTES * start)
            yield [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]

    def get(self, content: bytes, row: int) -> bytes | None:
        """The thumbnail of a content at or after `row`, the first one of its prefix; None where that is another's."""
        prefix = self.prefixes[row] if row < self.count else None
        while row < self.count and self.prefixes[row] == prefix:
            if os.pread(self._file, HASH_BYTES, _HEAD.size + HASH_BYTES * row) == content:
                start, end = self._ends(row, 2)
                return os.pread(self._file, end - start, self._data_at + start)
            row += 1
        return None

    def read_all(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield (content hash, thumbnail) of all."""
        row = 0
        for part in self.hashes():
            ends = self._ends(row, len(part) + 1)
            data = os.pread(self._file, ends[-1] - ends[0], self._data_at + ends[0])
            for place, content in enumerate(part):
                yield content, data[ends[place] - ends[0] : ends[place + 1] - ends[0]]
            row += len(part)

    def verify(self) -> None:
        """Compare what it holds with its checksum.

        Raises:
            ThumbnailsDamagedError: it differs.
        """
        digest, at = hashlib.sha256(), _HEAD.size
        while data := os.pread(self._file, _READ_BYTES, at):
            digest.update(data)
            at += len(data)
        if digest.digest() != self._sha256:
            raise self._damaged("its checksum differs")

    def _ends(self, row: int, count: int = 1) -> tuple[int, ...]:
        return struct.unpack(f"<{count}Q", os.pread(self._file, 8 * count, self._begin + 8 * row))

    def _damaged(self, why: str) -> ThumbnailsDamagedError:
        return ThumbnailsDamagedError(
            f"{self.path} is damaged ({why}): `imgrec doctor --fix` removes it, and `imgrec thumbnails` makes it anew"
        )
