"""Files appear whole or not at all: write beside the target, fsync, replace."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TEMPORARY_PREFIX = ".tmp-"


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it when the block ends without an exception."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{target.suffix}"
    # Not tempfile's, which nobody else may read: the umask can only be read by changing it, for all threads.
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        yield temporary
        sync(temporary)
        temporary.replace(target)
        sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(target: Path, data: bytes) -> None:
    """Write `data` to `target` as one step."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def sync(path: Path) -> None:
    """Flush a file or a directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stale_temporaries(folder: Path, rested_s: float = 0) -> list[Path]:
    """List what killed writers left below `folder`, and has rested so long; only for the holder of the library's lock.

    Jobs of a cluster write without that lock: where there may be some, what has not rested may be theirs.
    """
    now = time.time()
    return [
        path
        for path in folder.rglob(f"{TEMPORARY_PREFIX}*")
        if path.is_file() and (not rested_s or now - path.stat().st_mtime > rested_s)
    ]


def remove_stale_temporaries(folder: Path, rested_s: float = 0) -> int:
    """Remove what `stale_temporaries` lists; only the holder of the library's lock may call this."""
    stale = stale_temporaries(folder, rested_s)
    for path in stale:
        path.unlink()
    return len(stale)
