"""A segment: rows of vectors and the image ids of each, written once and mapped into memory by readers."""

import hashlib
import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.copies import Distinct
from imgrec.search.indexes.kinds.catalogue import kind_of
from imgrec.search.indexes.kinds.kind import NO_ROW, Builder, Kind, OpenSegment, Training
from imgrec.search.indexes.vectors import Ids, Mask, Offsets, Vectors
from imgrec.search.indexes.writing import write_array
from imgrec.storage.machine.atomic import sync, write_atomic
from imgrec.storage.machine.os_errors import cannot_be_opened

CHECKSUMS = "checksums.json"
_IDS, _STARTS, _ORDER, _KEYS = "ids.npy", "starts.npy", "order.npy", "keys.npy"


@dataclass(frozen=True)
class Segment:
    """An open segment: row r of `opened` belongs to the images `ids[starts[r]:starts[r + 1]]`."""

    opened: OpenSegment
    ids: Ids
    starts: Offsets
    stored_order: Offsets | None = None

    @cached_property
    def has_copies(self) -> bool:
        return bool(len(self.ids) != self.opened.rows)

    @cached_property
    def order(self) -> Offsets:
        """The places in `ids`, in the order of the ids there. The first releases did not store them."""
        return np.argsort(self.ids, kind="stable") if self.stored_order is None else self.stored_order

    def rows_all_in(self, chosen: Mask) -> Mask:
        """Which rows have none but chosen ids; `chosen` has one value an id."""
        return np.logical_and.reduceat(chosen, self.starts[:-1]) if self.has_copies else chosen

    def rows_any_in(self, chosen: Mask) -> Mask:
        """Which rows have a chosen id; `chosen` has one value an id."""
        return np.logical_or.reduceat(chosen, self.starts[:-1]) if self.has_copies else chosen

    def places_of(self, ids: Ids) -> Offsets:
        """Where in `ids` these ids are, -1 for those that are not there."""
        if len(self.ids) == 0:
            return np.full(len(ids), NO_ROW, np.int64)
        places = np.searchsorted(self.ids, ids, sorter=self.order)
        places[places == len(self.ids)] = 0
        places = self.order[places]
        return np.where(self.ids[places] == ids, places, NO_ROW)

    def rows_of(self, places: Offsets) -> Offsets:
        """The rows of places in `ids`."""
        return np.searchsorted(self.starts, places, side="right") - 1 if self.has_copies else places


def build_segment(folder: Path, kind: Kind, batches: Iterable[tuple[Ids, Vectors]], training: Training) -> int:
    """Write a segment of all (ids, vectors) that come, behind those of `training.base`; return how many images it has.

    It takes part in nothing until a manifest names it. No more than the kind's graph or codes is held in memory, and
    some 40 bytes a vector.
    """
    folder.mkdir(parents=True)
    try:
        ids, rows, keys = _build(kind.builder(folder, training), batches, training.base)
        by_row = np.argsort(rows, kind="stable")
        ordered = ids[by_row]
        write_array(folder / _IDS, ordered)
        write_array(folder / _STARTS, np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(keys)))]))
        write_array(folder / _ORDER, np.argsort(ordered, kind="stable"))
        write_array(folder / _KEYS, keys)
        for path in (*folder.iterdir(), folder):
            sync(path)
        write_atomic(folder / CHECKSUMS, json.dumps(_checksums(folder, _files(folder))).encode())
    except BaseException:
        shutil.rmtree(folder)  # on a full disk, half a segment is in the way of the next one
        raise
    return len(ids)


def verify_segment(folder: Path, thorough: bool = False) -> None:
    """Verify the files of a segment: with `thorough` all, else where one of them changed since that was last done.

    Only for a writer is it written down that it was done; `thorough` is for whoever only looks.

    Raises:
        IndexDamagedError: a file is not what was written.
    """
    try:
        known, verified = json.loads((folder / CHECKSUMS).read_bytes()), (folder / CHECKSUMS).stat()
        changed = thorough or any((folder / name).stat().st_ctime_ns > verified.st_ctime_ns for name in known)
        if not known.keys() or (changed and _checksums(folder, known) != known):
            raise IndexDamagedError(f"segment {folder} is damaged: `imgrec ingest` builds it anew")
        if changed and not thorough:
            (folder / CHECKSUMS).touch()
    except FileNotFoundError as error:
        if error.filename != str(folder / CHECKSUMS):  # the first release wrote none
            raise IndexDamagedError(f"segment {folder} is damaged ({error}): `imgrec ingest` builds it anew") from error
    except (ValueError, AttributeError, TypeError) as error:
        raise IndexDamagedError(f"{folder / CHECKSUMS} is damaged: `imgrec ingest` builds it anew") from error


def last_id(folder: Path) -> int:
    """The highest image id in a segment."""
    try:
        return int(np.load(folder / _IDS, mmap_mode="r").max(initial=0))
    except (OSError, ValueError, EOFError) as error:
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error


def open_segment(folder: Path, kind: str, images: int) -> Segment:
    """Map a segment into memory; pages are read as searches touch them.

    Raises:
        IndexDamagedError: files are missing, or do not hold `images` ids.
        OSError, RuntimeError: the machine refuses to open them.
    """
    try:
        opened = kind_of(kind).open(folder)
        ids, starts = _map(folder / _IDS), _map(folder / _STARTS)
        order = _map(folder / _ORDER) if (folder / _ORDER).exists() else None
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        if cannot_be_opened(error):
            raise
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error
    fits = len(ids) == images and len(starts) == opened.rows + 1 and (not images or starts[-1] == images)
    if not fits or (order is not None and len(order) != images):
        raise IndexDamagedError(
            f"segment {folder} holds {opened.rows} rows and {len(ids)} ids instead of {images}: "
            "`imgrec ingest` builds it anew"
        )
    return Segment(opened, ids, starts, order)


def _build(
    builder: Builder, batches: Iterable[tuple[Ids, Vectors]], base: Path | None
) -> tuple[Ids, Offsets, NDArray[np.uint64]]:
    """Give the builder each vector once; return all ids, the row of each, and the key of each row."""
    all_ids, all_rows, keys = [np.empty(0, np.int64)], [np.empty(0, np.int64)], np.empty(0, np.uint64)
    if base is not None:
        keys = np.load(base / _KEYS)
        all_ids.append(_map(base / _IDS))
        all_rows.append(np.repeat(np.arange(len(keys)), np.diff(_map(base / _STARTS))))
    distinct = Distinct(keys)
    for ids, vectors in batches:
        is_first, rows = distinct.number(vectors)
        builder.add(vectors if is_first.all() else vectors[is_first])
        all_ids.append(ids)
        all_rows.append(rows)
    builder.finish()
    return np.concatenate(all_ids), np.concatenate(all_rows), np.concatenate([keys, distinct.new_keys])


def _map(path: Path) -> Ids:
    """Map an array; as a plain one on the mapped file, since np.memmap itself is slow to index."""
    return np.asarray(np.load(path, mmap_mode="r"))


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS)


def _checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 (hex) of files."""
    found = {}
    for name in names:
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
