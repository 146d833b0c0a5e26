"""The folder in which multiprocessing keeps a process' sockets: a killed process leaves it, the next one removes it.

A kernel lock on a file in it says whether its owner lives, whatever namespace its process id is of.
"""

import fcntl
import multiprocessing.util
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

MARK = "imgrec.lock"


@cache
def claim_sockets_folder() -> None:
    """Mark this process' folder as one in use, as long as the process lives, and remove those of dead ones."""
    remove_dead_folders(Path(tempfile.gettempdir()))
    folder = Path(multiprocessing.util.get_temp_dir())
    unlocked = folder / "unlocked"
    if _lock(os.open(unlocked, os.O_RDWR | os.O_CREAT, 0o600)):  # open until the process ends
        unlocked.rename(folder / MARK)  # where there are no locks, nobody can tell: the folder has no mark, and stays


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
