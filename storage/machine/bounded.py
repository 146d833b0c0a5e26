"""Small files of others, read whole: never more of them than such a file has."""

import errno
import os
from pathlib import Path

# Configurations and descriptions have some kilobytes, what was learnt from SIFT half a megabyte.
MOST_BYTES = 16 * 2**20


def read_small(path: Path) -> bytes:
    """Read a file of at most 16 MiB.

    Raises:
        OSError: it has more (EFBIG), or as `open` and `read` do.
    """
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data
