"""Read a photo once at the scan: content hash, size in pixels, format. Runs in worker processes."""

import errno
import hashlib
import io
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from imgrec.storage.errors import TOO_LARGE, UNREADABLE, ImageError
from imgrec.storage.machine.pool import time_limit
from imgrec.storage.photos.decoding import PLAIN, Header, read_header
from imgrec.storage.photos.roots import Roots
from imgrec.storage.photos.walk import FoundFile

# Larger files are hashed and not held in memory: a film that is named .jpg.
MAX_FILE_BYTES = 2**31
# No film is larger. A sparse file may be, and would take hours to hash: its ends stand for it.
_MAX_HASHED_BYTES = 2**36
_END_BYTES = 2**20


class Probe(NamedTuple):
    """What a file held when it was read. `content_hash` (SHA-256, 32 bytes) is None where it could not be read."""

    file: FoundFile
    hashed_ns: int
    content_hash: bytes | None
    width: int | None
    height: int | None
    format: str | None
    status: str
    reason: str | None


def probe_files(
    roots: Roots,
    paths: Sequence[str],
    decode_timeout_s: float,
    known_failures: Mapping[bytes, tuple[str, str]] = MappingProxyType({}),
    follow_links: bool = False,
) -> list[Probe]:
    """Probe each file; a file that is gone by now is left out, one that cannot be read gets a reason.

    Contents that are in `known_failures` (content hash → status, reason) are not parsed again.
    """

    def judge(data: bytes, content_hash: bytes) -> Header:
        if (known := known_failures.get(content_hash)) is not None:
            raise ImageError(*known)
        with time_limit(decode_timeout_s):
            return read_header(data)

    return [probe for path in paths if (probe := _probe_file(roots, path, judge, follow_links)) is not None]


def probe_failed(roots: Roots, path: str, status: str, reason: str, follow_links: bool = False) -> list[Probe]:
    """Probe a file that ended its worker: its bytes are hashed, and nothing of it is parsed. Runs in a worker.

    First another picture is read: where that ends the worker too, it was not the file's fault.
    """
    read_header(PLAIN)

    def judge(data: bytes, content_hash: bytes) -> Header:
        raise ImageError(status, reason)

    probe = _probe_file(roots, path, judge, follow_links)
    return [] if probe is None else [probe]


def read_regular(path: Path, follow_symlink: bool = True) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file, without ever waiting on a pipe or a device.

    Raises:
        OSError: as `open` and `read` do; also for what is no regular file, or has more than 2 GiB.
    """
    with _open_regular(path, follow_symlink) as file:
        status = os.fstat(file.fileno())
        if status.st_size > MAX_FILE_BYTES:
            raise OSError(errno.EFBIG, "it has more than 2 GiB")
        return file.readall(), status


@contextmanager
def _open_regular(path: Path, follow_symlink: bool) -> Iterator[io.FileIO]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow_symlink else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with io.FileIO(descriptor, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _probe_file(roots: Roots, path: str, judge: Callable[[bytes, bytes], Header], follow_links: bool) -> Probe | None:
    started = time.time_ns()
    try:
        try:
            data, status = read_regular(roots.locate(path), follow_links)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            return _too_large(roots, path, started, follow_links)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unreadable(roots, path, started, error, follow_links)
    file = FoundFile.of(path, len(data), status)
    content_hash = hashlib.sha256(data).digest()
    try:
        header = judge(data, content_hash)
    except ImageError as error:
        return Probe(file, started, content_hash, None, None, None, error.status, str(error))
    return Probe(file, started, content_hash, header.width, header.height, header.format, "ok", None)


def _too_large(roots: Roots, path: str, started: int, follow_links: bool) -> Probe:
    """Hash a file of any size in little memory and time."""
    with _open_regular(roots.locate(path), follow_links) as opened:
        status = os.fstat(opened.fileno())
        if status.st_size <= _MAX_HASHED_BYTES:
            content_hash = hashlib.file_digest(opened, "sha256").digest()
        else:
            content_hash = _hash_ends(opened, status.st_size)
        file = FoundFile.of(path, opened.tell(), status)
    reason = f"{file.size / 1e9:.1f} GB are more than a picture has that can be decoded"
    return Probe(file, started, content_hash, None, None, None, TOO_LARGE, reason)


def _hash_ends(file: io.FileIO, size: int) -> bytes:
    hashed = hashlib.sha256(f"{size} bytes, which begin and end so: ".encode())
    for start in (0, size - _END_BYTES):
        file.seek(start)
        hashed.update(file.read(_END_BYTES))
    return hashed.digest()


def _unreadable(roots: Roots, path: str, started: int, error: OSError, follow_links: bool) -> Probe | None:
    try:
        status = roots.locate(path).stat(follow_symlinks=follow_links)
    except OSError:  # it is gone, or its folder cannot be entered any more: the next walk says which
        return None
    file = FoundFile.of(path, status.st_size, status)
    reason = f"cannot be read: {error.strerror or error}"
    return Probe(file, started, None, None, None, None, UNREADABLE, reason)
