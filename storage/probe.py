"""Read a photo once at the scan: content hash, size in pixels, format. Runs in worker processes."""

import hashlib
import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from storage.errors import ImageError
from storage.images import read_header
from storage.walk import FoundFile

UNREADABLE = "unreadable"


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


def probe_files(images_root: str, paths: Sequence[str]) -> list[Probe]:
    """Probe each file; a file that is gone by now is left out, one that cannot be read gets a reason."""
    return [probe for path in paths if (probe := _probe_file(Path(images_root), path)) is not None]


def read_regular(path: Path) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file, without ever waiting on a pipe or a device.

    Raises:
        OSError: as `open` and `read` do; also for what is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        return file.readall(), status


def _probe_file(root: Path, path: str) -> Probe | None:
    started = time.time_ns()
    try:
        data, status = read_regular(root / path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unreadable(root, path, started, error)
    file = FoundFile(path, len(data), status.st_mtime_ns, status.st_ctime_ns)
    content_hash = hashlib.sha256(data).digest()
    try:
        header = read_header(data)
    except ImageError as error:
        return Probe(file, started, content_hash, None, None, None, error.status, str(error))
    return Probe(file, started, content_hash, header.width, header.height, header.format, "ok", None)


def _unreadable(root: Path, path: str, started: int, error: OSError) -> Probe | None:
    try:
        status = os.lstat(root / path)
    except FileNotFoundError:
        return None
    file = FoundFile(path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    reason = f"cannot be read: {error.strerror or error}"
    return Probe(file, started, None, None, None, None, UNREADABLE, reason)
