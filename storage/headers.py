"""Read the headers of photos again that were scanned before their dates and cameras were of interest."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import NamedTuple

from imgrec.storage.machine.pool import map_batches, time_limit
from imgrec.storage.photos.decoding import read_exif
from imgrec.storage.photos.exif import NO_EXIF, Exif
from imgrec.storage.photos.probe import open_regular
from imgrec.storage.photos.roots import Roots
from imgrec.storage.registry import unread
from imgrec.storage.registry.registry import Registry

_FILES_PER_CALL = 64
# What was read is kept that often: a killed ingest reads no header twice but those of its last second.
_SAVE_EVERY_S = 1.0


class Unread(NamedTuple):
    """A photo of the library by its id, its path there as it opens, and its format."""

    id: int
    path: str
    format: str


def read_headers(
    registry: Registry,
    roots: Roots,
    left_alone: Collection[str],
    pool: Executor,
    timeout_s: float,
    follow_links: bool,
    on_read: Callable[[int, int], None],
) -> int:
    """Give photos of an older registry date and camera; return how many were looked at.

    Only headers are read, in `pool`, and nothing else of the photos changes. What cannot be read now says nothing.
    Photos of roots that are `left_alone` are read once their root is there again, and so is what is gone meanwhile.
    """
    total = unread.count(registry.connection, left_alone)
    if not total:
        return 0
    done, saved_s = 0, time.monotonic()
    found: list[tuple[int, Exif]] = []
    read = partial(read_some, roots, timeout_s=timeout_s, follow_links=follow_links)
    try:
        batches = _batches(registry, left_alone)
        for some in map_batches(pool, read, batches, in_flight=64, blame=lambda one, _: [(one.id, NO_EXIF)]):
            found += some
            done += len(some)
            if time.monotonic() - saved_s > _SAVE_EVERY_S:
                unread.record(registry.connection, found)
                found, saved_s = [], time.monotonic()
            on_read(done, total)
    finally:
        unread.record(registry.connection, found)
    return done


def read_some(roots: Roots, photos: Sequence[Unread], timeout_s: float, follow_links: bool) -> list[tuple[int, Exif]]:
    """Read the headers of some photos. Runs in a worker."""
    found = []
    for photo in photos:
        try:
            with open_regular(roots.locate(photo.path), follow_links) as file, time_limit(timeout_s):
                found.append((photo.id, read_exif(file, photo.format)))
        except FileNotFoundError:
            continue  # with its disk, perhaps: the next scan looks whether it is missing
        except OSError:
            found.append((photo.id, NO_EXIF))
    return found


def _batches(registry: Registry, left_alone: Collection[str]) -> Iterator[list[Unread]]:
    last = 0
    while some := [Unread(*row) for row in unread.after(registry.connection, last, _FILES_PER_CALL, left_alone)]:
        last = some[-1].id
        yield some
