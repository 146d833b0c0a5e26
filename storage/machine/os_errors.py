"""What a machine refuses: space, memory, files, permission. Every library below us reports that in its own way."""

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imgrec.storage.errors import ImgrecError, MachineError
from imgrec.storage.machine.pool import WorkerDiedError

# https://sqlite.org/rescode.html, as numbers, since the jobs of a cluster do without sqlite3
_CANTOPEN = 14
_OF_SQLITE = {
    5: errno.EBUSY,  # SQLITE_BUSY
    6: errno.EBUSY,  # SQLITE_LOCKED
    7: errno.ENOMEM,  # SQLITE_NOMEM
    8: errno.EROFS,  # SQLITE_READONLY
    10: errno.EIO,  # SQLITE_IOERR
    13: errno.ENOSPC,  # SQLITE_FULL
    10 | 19 << 8: errno.ENOSPC,  # SQLITE_IOERR_SHMSIZE: no room for the write-ahead log's index
}
# FAISS and Arrow only carry them in the text of another error.
_IN_TEXT = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENOMEM, errno.EIO, errno.EACCES)
# Not memory: a damaged file may ask for any amount.
_NOT_OPENED = {errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM}
# The registry, its write-ahead log and that one's index.
_FILES_OF_SQLITE = 3
_AGAIN = "then run the command again: it goes on from here"


def errno_of(error: BaseException) -> int | None:
    """Return the errno of what the machine refused, whoever reports it; None if `error` is something else."""
    if isinstance(error, MemoryError):
        return errno.ENOMEM
    if isinstance(error, FileNotFoundError) and "No usable temporary" in str(error):  # tempfile does not say why either
        return _why_not_opened(1) or error.errno
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        if code & 0xFF == _CANTOPEN:
            return _why_not_opened(_FILES_OF_SQLITE)
        return _OF_SQLITE.get(code) or _OF_SQLITE.get(code & 0xFF)
    if isinstance(error, OSError | RuntimeError):
        return next((code for code in _IN_TEXT if os.strerror(code) in str(error)), None)
    return None


def cannot_be_opened(error: BaseException) -> bool:
    """Whether the machine refuses to open a file, which says nothing about what the file holds."""
    return errno_of(error) in _NOT_OPENED


@contextmanager
def explaining(library: Path) -> Iterator[None]:
    """Turn what the machine refuses to a run on `library` into one line that names the thing and the remedy.

    Raises:
        MachineError: instead of what was raised; other errors pass.
    """
    try:
        yield
    except ImgrecError:
        raise
    except Exception as error:
        line = explain(error, library)
        if line is None:
            raise
        raise MachineError(line) from error


def explain(error: BaseException, library: Path) -> str | None:
    """Say in one line what the machine refused to a run on `library`, and what to do; None if it is something else."""
    if isinstance(error, WorkerDiedError):
        memory, other = "mostly for want of memory: use fewer --workers", "whatever it was given: check the machine"
        why = memory if error.killed else other
        return f"{error}, {why}, {_AGAIN}"
    code = errno_of(error)
    if code is None:
        return None
    where = (isinstance(error, OSError) and error.filename) or library
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return {
        errno.ENOSPC: f"no space is left on the disk of {where}: free some, {_AGAIN}",
        errno.EDQUOT: f"the disk quota for {where} is used up: free some space, {_AGAIN}",
        errno.EROFS: f"{where} is read-only: make it writable, {_AGAIN}",
        errno.EACCES: f"{where} may not be written or read by this user: give the permission, {_AGAIN}",
        errno.EPERM: f"{where} may not be written or read by this user: give the permission, {_AGAIN}",
        errno.EMFILE: f"more than {files:,} files would be open: raise the limit (`ulimit -n {4 * files}`), {_AGAIN}",
        errno.ENFILE: f"the machine has too many files open: close some programs, {_AGAIN}",
        errno.ENOMEM: f"memory is used up: use fewer --workers or a smaller --max-megapixels, {_AGAIN}",
        errno.EBUSY: f"another program has {library} open for writing: close it, {_AGAIN}",
        errno.EIO: f"the disk of {where} fails ({' '.join(str(error).split())}): check it, {_AGAIN}",
    }.get(code)


def _why_not_opened(files: int) -> int | None:
    """Where it is not said why files could not be opened: see whether so many can be."""
    opened: list[int] = []
    try:
        while len(opened) < files:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return None
