"""A segment: FAISS rows and the image id of each, written once and mapped into memory by readers."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.copies import group_equal, keep_only
from imgrec.storage.machine.atomic import sync, write_atomic
from imgrec.storage.machine.os_errors import cannot_be_opened

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]

CHECKSUMS = "checksums.json"
_FILES = ("index.faiss", "ids.npy", "starts.npy")
HNSW = "hnsw"
FLAT = "flat"


@dataclass(frozen=True)
class Segment:
    """An open segment: row r of `index` belongs to the images `ids[starts[r]:starts[r + 1]]`.

    Equal vectors share a row: in a graph, a few dozen of them have only each other for neighbours, and hide the rest.
    """

    index: faiss.Index
    ids: Ids
    starts: Ids

    @cached_property
    def has_copies(self) -> bool:
        return bool(len(self.ids) != self.index.ntotal)

    def rows_all_in(self, chosen: Mask) -> Mask:
        """Which rows have none but chosen ids; `chosen` has one value an id."""
        return np.logical_and.reduceat(chosen, self.starts[:-1]) if self.has_copies else chosen


def build_hnsw(
    batches: Iterable[tuple[Ids, Vectors]], total: int, dim: int, hnsw_m: int, ef_construction: int
) -> Segment:
    """Build an HNSW graph on inner products of unit vectors (https://arxiv.org/abs/1603.09320)."""
    index = faiss.IndexHNSWFlat(dim, hnsw_m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    return _fill(index, faiss.downcast_index(index.storage), batches, total)


def build_flat(batches: Iterable[tuple[Ids, Vectors]], total: int, dim: int) -> Segment:
    """Build a segment for exact search, which is as fast as a graph for a few thousand rows."""
    index = faiss.IndexFlatIP(dim)
    return _fill(index, index, batches, total)


def write_segment(folder: Path, segment: Segment) -> None:
    """Write a segment; it takes part in nothing until a manifest names it."""
    folder.mkdir(parents=True)
    try:
        _write_index(folder / "index.faiss", segment.index)
        _write_array(folder / "ids.npy", segment.ids)
        _write_array(folder / "starts.npy", segment.starts)
        for path in (*folder.iterdir(), folder):
            sync(path)
        write_atomic(folder / CHECKSUMS, json.dumps(_checksums(folder)).encode())
    except BaseException:
        shutil.rmtree(folder)  # on a full disk, half a segment is in the way of the next one
        raise


def verify_segment(folder: Path, thorough: bool = False) -> None:
    """Verify the files of a segment: with `thorough` all, else where one of them changed since that was last done.

    Only for a writer is it written down that it was done; `thorough` is for whoever only looks.

    Raises:
        IndexDamagedError: a file is not what was written.
    """
    try:
        known, verified = json.loads((folder / CHECKSUMS).read_bytes()), (folder / CHECKSUMS).stat()
        changed = thorough or any((folder / name).stat().st_ctime_ns > verified.st_ctime_ns for name in _FILES)
        if known.keys() != set(_FILES) or (changed and _checksums(folder) != known):
            raise IndexDamagedError(f"segment {folder} is damaged: `imgrec ingest` builds it anew")
        if changed and not thorough:
            (folder / CHECKSUMS).touch()
    except FileNotFoundError as error:
        if error.filename != str(folder / CHECKSUMS):  # the first release wrote none
            raise IndexDamagedError(f"segment {folder} is damaged ({error}): `imgrec ingest` builds it anew") from error
    except (ValueError, AttributeError) as error:
        raise IndexDamagedError(f"{folder / CHECKSUMS} is damaged: `imgrec ingest` builds it anew") from error


def last_id(folder: Path) -> int:
    """The highest image id in a segment."""
    try:
        return int(np.load(folder / "ids.npy", mmap_mode="r").max(initial=0))
    except (OSError, ValueError, EOFError) as error:
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error


def open_segment(folder: Path, images: int) -> Segment:
    """Map a segment into memory; pages are read as searches touch them.

    Raises:
        IndexDamagedError: files are missing, or do not hold `images` ids.
        OSError, RuntimeError: the machine refuses to open them.
    """
    try:
        index = faiss.read_index(os.fspath(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        # As plain arrays on the mapped files: np.memmap itself is slow to index.
        ids = np.asarray(np.load(folder / "ids.npy", mmap_mode="r"))
        starts = np.asarray(np.load(folder / "starts.npy", mmap_mode="r"))
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        if cannot_be_opened(error):
            raise
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error
    if len(ids) != images or len(starts) != index.ntotal + 1 or (images and starts[-1] != images):
        raise IndexDamagedError(
            f"segment {folder} holds {index.ntotal} rows and {len(ids)} ids instead of {images}: "
            "`imgrec ingest` builds it anew"
        )
    return Segment(index, ids, starts)


def _write_index(path: Path, index: faiss.Index) -> None:
    """Write what `faiss.write_index` writes to a path; that does not tell when the last bytes find no space."""
    failures: list[OSError] = []
    with open(path, "wb") as file:

        def write(data: bytes) -> None:
            try:
                file.write(data)
            except OSError as error:
                failures.append(error)
                raise

        try:
            faiss.write_index(index, faiss.PyCallbackIOWriter(write))
        except Exception:
            if failures:
                raise failures[0] from None
            raise


def _write_array(path: Path, array: Ids) -> None:
    """Write what `np.save` writes; that loses the reason when a disk is full."""
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        file.write(np.ascontiguousarray(array).data)


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 (hex) of every file that searches read."""
    found = {}
    for name in _FILES:
        with open(folder / name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _fill(index: faiss.Index, storage: faiss.Index, batches: Iterable[tuple[Ids, Vectors]], total: int) -> Segment:
    """Read the vectors to where the index keeps them, and let FAISS add them from there, all at once.

    So nothing is held twice, and FAISS's threads wait for one another once and not at the end of every batch.
    """
    storage.codes.resize(total * storage.code_size)
    place = faiss.rev_swig_ptr(storage.codes.data(), total * storage.code_size).view("<f4").reshape(total, index.d)
    ids = np.empty(total, np.int64)
    done = 0
    for batch_ids, vectors in batches:
        place[done : done + len(vectors)] = vectors
        ids[done : done + len(vectors)] = batch_ids
        done += len(vectors)
    distinct, row_of = group_equal(place[:done])
    kept = keep_only(place, distinct)
    storage.codes.resize(len(distinct) * storage.code_size)
    index.add(kept)
    by_row = np.argsort(row_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=index.ntotal))]).astype(np.int64)
    return Segment(index, ids[:done][by_row], starts)
