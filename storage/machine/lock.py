"""One writer a library: a kernel file lock, plus a heartbeat for hosts that do not share kernel locks."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.photos.paths import printable

HEARTBEAT_S = 20.0
STALE_AFTER_S = 3 * HEARTBEAT_S
HOLDER = "lock.json"


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold the library at `root` for writing.

    The kernel frees its lock when the holder dies, however it dies. Where the file system does not carry locks from
    host to host (some NFS mounts), a holder elsewhere counts as dead after three missed heartbeats.

    Raises:
        LibraryLockedError: somebody else holds it; the message says who and since when.
    """
    with undisturbed(root), _heartbeat(root / HOLDER):
        yield


@contextmanager
def undisturbed(root: Path) -> Iterator[None]:
    """Keep writers away from the library at `root` without being one: for whoever only looks, and long.

    Raises:
        LibraryLockedError: somebody writes it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock", timeout=0)
    holder_path = root / HOLDER
    try:
        lock.acquire()
    except Timeout:
        raise LibraryLockedError(_refusal(root, read_holder(root))) from None
    try:
        holder = read_holder(root)
        if holder is not None and _alive_elsewhere(holder, holder_path):
            raise LibraryLockedError(_refusal(root, holder))
        yield
    finally:
        lock.release()


@contextmanager
def _heartbeat(holder_path: Path) -> Iterator[None]:
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": _command(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomic(holder_path, json.dumps(mine).encode())
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):  # somebody tidied up, or the disk fails: the kernel's lock still holds
                os.utime(holder_path)

    thread = threading.Thread(target=beat, name="imgrec-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        holder_path.unlink(missing_ok=True)


def read_holder(root: Path) -> dict[str, object] | None:
    """Who wrote the library last and did not sign off: host, pid, since."""
    try:
        holder = json.loads((root / HOLDER).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"pid", "host", "since"} <= holder.keys() else None


def _alive_elsewhere(holder: dict[str, object], path: Path) -> bool:
    return holder.get("host") != socket.gethostname() and time.time() - path.stat().st_mtime < STALE_AFTER_S


def _command() -> str:
    """What this process was started as, in one printable line."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return " ".join(printable(word) for word in words if word).replace("\n", " ")[:200]


def _refusal(root: Path, holder: dict[str, object] | None) -> str:
    who = "another process"
    if holder:
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
        who += f" (`{holder['command']}`)" if holder.get("command") else ""
    return f"{root} is being written by {who}: wait for it to end, or use another --library"
