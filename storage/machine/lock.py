"""One writer a library: a kernel file lock, plus a heartbeat for hosts that do not share kernel locks."""

import errno
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.machine.atomic import TEMPORARY_PREFIX, sync
from imgrec.storage.photos.paths import printable

HEARTBEAT_S = 20.0
STALE_AFTER_S = 3 * HEARTBEAT_S
HOLDER = "lock.json"
# How often it is looked whether the holder before is done.
_TURN_S = 0.5

logger = logging.getLogger(__name__)


@contextmanager
def writer_lock(root: Path) -> Iterator[None]:
    """Hold the library at `root` for writing.

    The kernel frees its lock when the holder dies, however it dies. Where the file system does not carry locks from
    host to host (some NFS mounts), a holder elsewhere counts as dead after three missed heartbeats.

    Raises:
        LibraryLockedError: somebody else holds it; the message says who and since when.
    """
    with undisturbed(root), _heartbeat(root):
        yield


@contextmanager
def writer_lock_in_turn(root: Path) -> Iterator[None]:
    """Hold the library for writing as `writer_lock` does, but wait for whoever holds it: after long work."""
    with ExitStack() as held:
        told = False
        while True:
            try:
                held.enter_context(writer_lock(root))
                break
            except LibraryLockedError as error:
                if not told:
                    logger.warning("%s; this waits", str(error).partition(": wait for it")[0])
                told = True
                time.sleep(_TURN_S)
        yield


@contextmanager
def undisturbed(root: Path) -> Iterator[None]:
    """Keep writers away from the library at `root` without being one: for whoever only looks, and long.

    Raises:
        LibraryLockedError: somebody writes it.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise LibraryLockedError(_refusal(root, read_holder(root))) from None
    try:
        with suppress(FileNotFoundError):  # it signs off at this moment
            _refuse_if_alive(root)
        yield
    finally:
        lock.release()


@contextmanager
def _heartbeat(root: Path) -> Iterator[None]:
    holder_path = root / HOLDER
    facts = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": _command(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "token": secrets.token_hex(8),
    }
    mine = json.dumps(facts).encode()
    _claim(root, mine)
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):  # somebody tidied up, or the disk fails: the kernel's lock still holds
                if holder_path.read_bytes() == mine:
                    os.utime(holder_path)

    thread = threading.Thread(target=beat, name="imgrec-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(FileNotFoundError):
            if holder_path.read_bytes() == mine:
                holder_path.unlink()


def _claim(root: Path, mine: bytes) -> None:
    """Make lock.json, whole and only if nobody else does: of two hosts that both found it free, one is refused."""
    path, written = root / HOLDER, _aside(root)
    _remove_dead(root)
    try:
        written.write_bytes(mine)
        sync(written)
        _link(written, path)
    except (FileExistsError, FileNotFoundError):  # the quicker one may have tidied up what we wrote
        raise LibraryLockedError(_refusal(root, read_holder(root))) from None
    finally:
        written.unlink(missing_ok=True)
    sync(root)


def _remove_dead(root: Path) -> None:
    """Remove a dead holder's lock.json, but no other: whoever was quicker to do so may have made a new one since."""
    path, aside = root / HOLDER, _aside(root)
    try:
        dead = path.read_bytes()
        _refuse_if_alive(root)
        path.rename(aside)
    except FileNotFoundError:
        return
    try:
        if aside.read_bytes() != dead:
            with suppress(FileExistsError):
                _link(aside, path)
            raise LibraryLockedError(_refusal(root, read_holder(root)))
    finally:
        aside.unlink(missing_ok=True)


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, if that is free; where the file system has no links, copy it to a new file.

    Raises:
        FileExistsError: there is a file of that name.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        with open(target, "xb") as file:
            file.write(source.read_bytes())


def _aside(root: Path) -> Path:
    return root / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"


def read_holder(root: Path) -> dict[str, object] | None:
    """Who wrote the library last and did not sign off: host, pid, since."""
    try:
        holder = json.loads((root / HOLDER).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return holder if isinstance(holder, dict) and {"pid", "host", "since"} <= holder.keys() else None


def _refuse_if_alive(root: Path) -> None:
    """The kernel's lock tells of holders on this host, a missed heartbeat of those elsewhere."""
    holder = read_holder(root)
    if holder is None or holder.get("host") == socket.gethostname():
        return
    if time.time() - (root / HOLDER).stat().st_mtime < STALE_AFTER_S:
        raise LibraryLockedError(_refusal(root, holder))


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
