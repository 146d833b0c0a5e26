"""Make the thumbnails that a library lacks: photos that were embedded without, or whose pack was lost."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

from imgrec.storage.errors import ImageChangedError, ImageError
from imgrec.storage.machine.pool import map_batches, time_limit
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.pending import Pending, read_unchanged
from imgrec.storage.photos.roots import Roots
from imgrec.storage.registry.pending import live_contents
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.storage.thumbnails.webp import SIDE, thumbnail_of

# So many are made before they are kept: a crash costs no more, and a first pass over a large library few packs.
_PER_PACK = 8_192
_PER_CALL = 16


@dataclass(frozen=True)
class Reading:
    """How photos are read: as the library's settings say, and within the machine's limits."""

    roots: Roots
    follow_links: bool
    icc_profiles: str
    max_megapixels: float
    decode_timeout_s: float


def list_lacking(registry: Registry, store: ThumbnailStore, ids: Sequence[int] | None = None) -> Iterator[Pending]:
    """Yield the contents without a thumbnail, of all live images or of these."""
    for some in live_contents(registry, ids):
        lacking = set(store.lacking([pending.content_hash for pending in some]))
        yield from (pending for pending in some if pending.content_hash in lacking)


def make_thumbnails(
    lacking: Sequence[Pending],
    store: ThumbnailStore,
    reading: Reading,
    pool: Executor,
    in_flight: int,
    on_images: Callable[[int], None] = lambda count: None,
) -> int:
    """Make thumbnails in the workers of `pool` and keep them; return how many.

    Photos that changed or that cannot be decoded get none, and cost no other one its own.
    """
    made = 0
    for start in range(0, len(lacking), _PER_PACK):
        part = lacking[start : start + _PER_PACK]
        batches = [part[at : at + _PER_CALL] for at in range(0, len(part), _PER_CALL)]
        thumbnails: dict[bytes, bytes] = {}
        for done in map_batches(pool, partial(thumbnails_of, reading), batches, in_flight, lambda pending, death: {}):
            thumbnails |= done
            on_images(_PER_CALL)
        store.add(thumbnails)
        made += len(thumbnails)
    if store.wants_merge:
        store.merge()
    return made


def thumbnails_of(reading: Reading, pendings: Sequence[Pending]) -> dict[bytes, bytes]:
    """Make thumbnails by content hash. Runs in a worker process."""
    made = {}
    for pending in pendings:
        try:
            data = read_unchanged(reading.roots, pending, reading.follow_links)
            with time_limit(reading.decode_timeout_s):
                made[pending.content_hash] = thumbnail_of(
                    decode(data, SIDE, reading.max_megapixels, reading.icc_profiles)
                )
        except (ImageChangedError, ImageError):
            continue  # the next ingest says what is wrong with it
    return made
