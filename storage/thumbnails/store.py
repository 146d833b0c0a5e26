"""The thumbnails of a library: a folder of packs."""

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import ThumbnailsDamagedError
from imgrec.storage.machine.atomic import TEMPORARY_PREFIX
from imgrec.storage.thumbnails.packs import SUFFIX, Pack, prefixes_of, write_pack

# A folder of N thumbnails keeps at most N / 65,536 + 16 packs; a merged one holds at most as many, some 50 MB.
PER_PACK = 65_536
SPARE_PACKS = 16

logger = logging.getLogger(__name__)


class ThumbnailStore:
    """Thumbnails by content hash, for any number of threads; packs that come or go are noticed at the next call.

    Only the holder of the library's lock may merge or forget; whoever embeds may add.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._packs: list[Pack] = []
        self._damaged: set[str] = set()
        self._stamp: int | None = None
        self._looking = threading.Lock()

    def packs(self) -> list[Pack]:
        """The packs that are there, opened; damaged ones are left out, with a warning."""
        with self._looking:
            try:
                stamp = self.folder.stat().st_mtime_ns
            except FileNotFoundError:
                return []
            if stamp != self._stamp:
                self._packs = self._open({pack.path.name: pack for pack in self._packs})
                self._stamp = stamp
            return self._packs

    def get_many(self, contents: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the thumbnails of these contents, as far as there are some."""
        wanted = list(dict.fromkeys(contents))
        found: dict[bytes, bytes] = {}
        for pack in self.packs():
            rest = [content for content in wanted if content not in found]
            if not rest:
                break
            rows, here = _look_up(pack, rest)
            for place in np.flatnonzero(here).tolist():
                if (thumbnail := pack.get(rest[place], int(rows[place]))) is not None:
                    found[rest[place]] = thumbnail
        return found

    def lacking(self, contents: Sequence[bytes]) -> list[bytes]:
        """List those of these contents that have no thumbnail, told by 8 bytes of each hash."""
        here = np.zeros(len(contents), bool)
        for pack in self.packs():
            here |= _look_up(pack, contents)[1]
        return [content for content, has in zip(contents, here.tolist(), strict=True) if not has]

    def add(self, thumbnails: Mapping[bytes, bytes]) -> None:
        """Keep thumbnails, in a pack of their own."""
        if thumbnails:
            write_pack(self.folder, thumbnails)

    @property
    def wants_merge(self) -> bool:
        packs = self.packs()
        return len(packs) > _allowed(packs)

    def merge(self) -> None:
        """Merge the smallest packs while there are too many. A crash in between costs nothing but space."""
        packs = sorted(self.packs(), key=lambda pack: pack.count)
        allowed = _allowed(packs)
        while len(packs) > allowed:
            parts = [packs.pop(0)]
            while packs and sum(part.count for part in parts) + packs[0].count <= PER_PACK:
                parts.append(packs.pop(0))
            if len(parts) < 2:
                return
            merged = {content: thumbnail for part in parts for content, thumbnail in part.read_all()}
            packs.append(Pack(self._replace(parts, merged)))
            packs.sort(key=lambda pack: pack.count)

    def forget(self, unknown: Mapping[Path, Collection[bytes]]) -> None:
        """Write packs anew without some contents, by the pack's path."""
        for pack in self.packs():
            if gone := unknown.get(pack.path):
                rest = {content: small for content, small in pack.read_all() if content not in gone}
                if rest:
                    self._replace([pack], rest)
                else:
                    pack.path.unlink()

    def _replace(self, old: Sequence[Pack], thumbnails: Mapping[bytes, bytes]) -> Path:
        """Write one pack in place of others, which go after it is there."""
        path = write_pack(self.folder, thumbnails)
        for pack in old:
            if pack.path != path:
                pack.path.unlink(missing_ok=True)
        return path

    def _open(self, known: Mapping[str, Pack]) -> list[Pack]:
        packs = []
        for path in pack_paths(self.folder):
            try:
                packs.append(known.get(path.name) or Pack(path))
            except FileNotFoundError:  # merged just now: the next look finds what it became
                continue
            except ThumbnailsDamagedError as error:
                if path.name not in self._damaged:
                    self._damaged.add(path.name)
                    logger.warning("%s", error)
        return packs


def pack_paths(folder: Path) -> list[Path]:
    """The packs of a folder, whole or damaged."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith(TEMPORARY_PREFIX))


def _look_up(pack: Pack, contents: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the row of a pack at which each content would begin, and whether one of its first 8 bytes is there."""
    wanted = prefixes_of(contents)
    rows = np.searchsorted(pack.prefixes, wanted)
    here = np.zeros(len(rows), bool)
    inside = rows < pack.count
    here[inside] = pack.prefixes[rows[inside]] == wanted[inside]
    return rows, here


def _allowed(packs: Sequence[Pack]) -> int:
    return int(sum(pack.count for pack in packs)) // PER_PACK + SPARE_PACKS
