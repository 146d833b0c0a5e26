"""A photo's content that waits for work, as a worker on any machine has to know it."""

import hashlib
from typing import NamedTuple

from imgrec.storage.errors import ImageChangedError
from imgrec.storage.photos.probe import read_regular
from imgrec.storage.photos.roots import Roots
from imgrec.storage.photos.walk import FoundFile


class Pending(NamedTuple):
    """A content, and one file that holds it."""

    content_hash: bytes
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int


def read_unchanged(roots: Roots, pending: Pending, follow_links: bool) -> bytes:
    """Read the file below its folder of photos.

    Raises:
        ImageChangedError: it is gone, or holds something else by now.
    """
    try:
        data, status = read_regular(roots.locate(pending.path), follow_links)
    except OSError as error:
        raise ImageChangedError(f"{pending.path}: {error}") from error
    same_stat = FoundFile.of(pending.path, len(data), status) == pending[1:]
    if not same_stat and hashlib.sha256(data).digest() != pending.content_hash:
        raise ImageChangedError(pending.path)
    return data
