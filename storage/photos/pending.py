"""A photo's content that waits for vectors, as a worker on any machine has to know it."""

from typing import NamedTuple


class Pending(NamedTuple):
    """A content without a vector, and one file that holds it."""

    content_hash: bytes
    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
