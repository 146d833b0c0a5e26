"""What lies in a library and nothing refers to: vectors and shards of old settings, leftovers of killed runs."""

import logging
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path

from imgrec.search.indexes.layout import index_folders
from imgrec.search.map.files import map_folders
from imgrec.search.names import stored_name
from imgrec.storage.library import Library
from imgrec.storage.machine.atomic import stale_temporaries
from imgrec.storage.names import vector_table
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.cache import NAME as CACHE
from imgrec.storage.thumbnails.cache import ThumbnailCache
from imgrec.storage.thumbnails.store import ThumbnailStore

# SQLite uses free pages again, so a registry is only made smaller when it is worth copying all of it.
COMPACT_FROM_SHARE = 0.2
COMPACT_FROM_BYTES = 2**20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Garbage:
    """Something that can go: what kind of thing, its name, the bytes that it takes, and how it is removed."""

    kind: str
    what: str
    bytes: int
    remove: Callable[[], None]


def unused_vectors(registry: Registry, used: Collection[str]) -> Iterator[Garbage]:
    """Yield the vectors in the registry whose fingerprint is not in use.

    They go before the files of their shards: a shard whose fingerprint the registry does not know is never adopted.
    """
    for fingerprint, modality in registry.fingerprints().items():
        if fingerprint not in used:
            count, size = registry.connection.execute(
                f"""SELECT count(*), 4 * dim * count(*) FROM {vector_table(modality)}
                    JOIN fingerprints USING (fingerprint) WHERE fingerprint = ?""",
                (fingerprint,),
            ).fetchone()
            what = f"{modality} {fingerprint}: {count:,} in registry.sqlite"
            yield Garbage("vectors", what, size or 0, partial(registry.forget_fingerprint, fingerprint, modality))


def unused_shards(library: Library, used: Collection[str]) -> Iterator[Garbage]:
    """Yield the folders of shards whose fingerprint is not in use, and single shards that were set aside as damaged."""
    for folder in sorted(library.shards_dir.glob("*/*/")):
        if folder.name not in used:
            yield _folder(library, "shards", folder)
            continue
        for path in sorted(folder.glob("*.damaged")):
            yield _file(library, "damaged shard", path)


def unused_thumbnails(library: Library, registry: Registry) -> Iterator[Garbage]:
    """Yield thumbnails of contents that no image has: those in packs, and larger ones that were looked at."""
    store = ThumbnailStore(library.thumbnails_dir)
    unknown: dict[Path, set[bytes]] = {}
    size = 0
    for pack in store.packs():
        in_pack = {content for part in pack.hashes() for content in registry.unknown_contents(part)}
        if in_pack:
            unknown[pack.path] = in_pack
            size += pack.bytes * len(in_pack) // pack.count
    if unknown:
        count = sum(map(len, unknown.values()))
        yield Garbage("thumbnails", f"{count:,} of photos that are forgotten", size, partial(store.forget, unknown))
    cache = ThumbnailCache(library.thumbnails_dir, inf)
    if (library.thumbnails_dir / CACHE).is_file() and (gone := registry.unknown_contents(cache.contents())):
        what = f"larger ones of {len(gone):,} photos that are forgotten"
        yield Garbage("thumbnails", what, cache.size_of(gone), partial(cache.forget, gone))


def unused_maps(library: Library, keep_replaced_s: float) -> Iterator[Garbage]:
    """Yield versions of maps that were replaced, and maps of indexes that are gone."""
    there = {folder.key for folder in index_folders(library.indexes_dir)}
    for folder in map_folders(library.maps_dir):
        if stored_name(folder.index) not in there:
            yield _folder(library, "map", folder.root)
            continue
        for path in folder.leftovers(keep_replaced_s):
            yield _folder(library, "map version", path)


def leftover_files(library: Library) -> Iterator[Garbage]:
    """Yield temporary files and chunks of runs that were killed. Only the holder of the library's lock may ask."""
    for path in stale_temporaries(library.root, library.temporaries_rest_s):
        yield _file(library, "temporary file", path)
    if library.chunks_dir.is_dir():
        yield _folder(library, "chunks", library.chunks_dir)


def free_pages(registry: Registry) -> Iterator[Garbage]:
    """Yield the space in registry.sqlite that holds nothing, if there is much of it."""
    pages, free, page_bytes = (
        int(registry.connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    if free >= COMPACT_FROM_SHARE * pages and free * page_bytes >= COMPACT_FROM_BYTES:
        yield Garbage("free space", "registry.sqlite", free * page_bytes, partial(_compact, registry.connection))


def _compact(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:  # it takes the registry's size in free disk, twice
        logger.warning("registry.sqlite keeps its free space, which new vectors fill again (%s)", error)


def _folder(library: Library, kind: str, folder: Path) -> Garbage:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Garbage(kind, str(folder.relative_to(library.root)), size, partial(shutil.rmtree, folder))


def _file(library: Library, kind: str, path: Path) -> Garbage:
    return Garbage(kind, str(path.relative_to(library.root)), path.stat().st_size, path.unlink)
