"""Which failures are worth another try, and when."""

import errno
import random
import sqlite3
from concurrent.futures.process import BrokenProcessPool

from imgrec.storage.errors import ImgrecError
from imgrec.storage.machine.os_errors import errno_of
from imgrec.tasks.executors.errors import JobFailedError

# Trying again neither empties a disk, nor raises a limit, nor shortens a name.
_PERMANENT_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EMFILE,
    errno.ENOMEM, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EFBIG, errno.EINVAL,
}  # fmt: skip
# 2, 4, 8, 16 s, each up to half longer, so that many jobs do not come back at once.
FIRST_DELAY_S = 2.0
JITTER = 0.5


def is_temporary(error: BaseException) -> bool:
    """Whether a failure may be over at the next try: a busy database, a network disk, a killed worker."""
    if isinstance(error, JobFailedError):
        return error.temporary
    if isinstance(error, ImgrecError):
        return False
    code = errno_of(error)
    if code in _PERMANENT_ERRNOS:
        return False
    if isinstance(error, OSError) and code is None:  # no kernel said so, but Python: of a name, an argument, a damage
        return isinstance(error, ConnectionError | TimeoutError)
    return isinstance(error, OSError | sqlite3.OperationalError | BrokenProcessPool)


def delay_s(tries: int) -> float:
    """Seconds to wait after the first, second … try."""
    return float(FIRST_DELAY_S * 2 ** (tries - 1) * random.uniform(1, 1 + JITTER))
