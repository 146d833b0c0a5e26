"""The folder in which multiprocessing keeps a process' sockets: a killed process leaves it, the next one removes it.

A kernel lock on a file in it says whether its owner lives, whatever namespace its process id is of. The kernel takes no
socket of a long name, so where the folder of temporary files has one, a shorter place is taken, as Python 3.14 does.
"""

import fcntl
import multiprocessing.util
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from imgrec.storage.errors import MachineError

MARK = "imgrec.lock"
# What a socket's name may be on macOS, which allows the least, less "/pymp-" and "/listener-" with 8 letters each.
LONGEST = 103 - 32
SHORT_PLACES = ("/tmp", "/var/tmp", "/dev/shm")


@cache
def claim_sockets_folder() -> None:
    """Mark this process' folder as one in use, as long as the process lives, and remove those of dead ones."""
    parent = find_short_place(Path(tempfile.gettempdir()))
    remove_dead_folders(parent)
    folder = _make_folder(parent)
    unlocked = folder / "unlocked"
    if _lock(os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)):  # open until the process ends
        unlocked.rename(folder / MARK)  # where there are no locks, nobody can tell: the folder has no mark, and stays


def find_short_place(temporary: Path) -> Path:
    """Return the folder of temporary files, or where its name is too long for sockets, another.

    Raises:
        MachineError: no other folder can be written.
    """
    for place in (temporary, *map(Path, SHORT_PLACES)):
        if len(os.fsencode(place)) <= LONGEST and os.access(place, os.W_OK | os.X_OK):
            return place
    raise MachineError(
        f"{temporary} has too long a name for the sockets of worker processes, and {', '.join(SHORT_PLACES)} cannot be "
        f"written: set TMPDIR to a folder whose name has no more than {LONGEST} bytes"
    )


def _make_folder(parent: Path) -> Path:
    """Let multiprocessing make its folder in `parent`, which it only asks `tempfile` for."""
    before, tempfile.tempdir = tempfile.tempdir, os.fspath(parent)
    try:
        return Path(multiprocessing.util.get_temp_dir())
    finally:
        tempfile.tempdir = before


def remove_dead_folders(parent: Path) -> None:
    """Remove this user's folders in `parent` whose owner is dead."""
    for folder in parent.glob("pymp-*"):
        try:
            descriptor = os.open(folder / MARK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:  # somebody else's, not ours to tell, or gone meanwhile
            continue
        try:
            if folder.lstat().st_uid == os.geteuid() and _lock(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
