"""A segment: FAISS rows and the image id of each, written once and mapped into memory by readers."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from search.errors import IndexDamagedError
from storage.atomic import sync

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Mask = NDArray[np.bool_]

T = TypeVar("T")

HNSW = "hnsw"
FLAT = "flat"
FILES = ("index.faiss", "ids.npy", "starts.npy")
CHECKSUMS = "checksums.json"


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
    """Build an HNSW graph on inner products of unit vectors (https://arxiv.org/abs/1603.09320).

    All memory is taken once, for `total` rows: growing by doubling would hold everything twice.
    """
    index = faiss.IndexHNSWFlat(dim, hnsw_m, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = ef_construction
    storage = faiss.downcast_index(index.storage)
    storage.codes.resize(total * storage.code_size)
    storage.codes.resize(0)  # the size goes back, the memory stays
    links = index.hnsw.nb_neighbors(0)
    index.hnsw.neighbors.resize(total * links)
    index.hnsw.neighbors.resize(0)
    return _fill(index, batches, total)


def build_flat(batches: Iterable[tuple[Ids, Vectors]], total: int, dim: int) -> Segment:
    """Build a segment for exact search, which is as fast as a graph for a few thousand rows."""
    return _fill(faiss.IndexFlatIP(dim), batches, total)


def write_segment(folder: Path, segment: Segment) -> None:
    """Write a segment; it takes part in nothing until a manifest names it."""
    folder.mkdir(parents=True)
    faiss.write_index(segment.index, os.fspath(folder / "index.faiss"))
    np.save(folder / "ids.npy", segment.ids)
    np.save(folder / "starts.npy", segment.starts)
    (folder / CHECKSUMS).write_text(json.dumps(_checksums(folder)))
    for path in (*folder.iterdir(), folder):
        sync(path)


def verify_segment(folder: Path) -> bool:
    """Whether a segment's files hold what was written; True for segments of before there were checksums.

    Reads all of them. Opening a segment maps it and checks its sizes only.
    """
    try:
        written = json.loads((folder / CHECKSUMS).read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    try:
        return bool(written == _checksums(folder))
    except OSError:
        return False


def open_segment(folder: Path, images: int) -> Segment:
    """Map a segment into memory; pages are read as searches touch them.

    Raises:
        IndexDamagedError: files are missing, or do not hold `images` ids.
    """
    try:
        index = faiss.read_index(os.fspath(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        # As plain arrays on the mapped files: np.memmap itself is slow to index.
        ids = np.asarray(np.load(folder / "ids.npy", mmap_mode="r"))
        starts = np.asarray(np.load(folder / "starts.npy", mmap_mode="r"))
    except (RuntimeError, OSError, ValueError, EOFError) as error:
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error
    if len(ids) != images or len(starts) != index.ntotal + 1 or (images and starts[-1] != images):
        raise IndexDamagedError(
            f"segment {folder} holds {index.ntotal} rows and {len(ids)} ids instead of {images}: "
            "`imgrec ingest` builds it anew"
        )
    return Segment(index, ids, starts)


def _checksums(folder: Path) -> dict[str, str]:
    sums = {}
    for name in FILES:
        with (folder / name).open("rb") as file:
            sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _fill(index: faiss.Index, batches: Iterable[tuple[Ids, Vectors]], total: int) -> Segment:
    ids, rows = np.empty(total, np.int64), np.empty(total, np.int64)
    row_of: dict[bytes, int] = {}
    done = 0
    for batch_ids, vectors, keys in _read_ahead(_keyed(batches)):
        fresh = []
        for place, key in enumerate(keys):
            if key not in row_of:
                row_of[key] = len(row_of)
                fresh.append(place)
        ids[done : done + len(keys)] = batch_ids
        rows[done : done + len(keys)] = [row_of[key] for key in keys]
        done += len(keys)
        if fresh:
            index.add(vectors if len(fresh) == len(vectors) else vectors[fresh])
    by_row = np.argsort(rows[:done], kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[:done], minlength=index.ntotal))]).astype(np.int64)
    return Segment(index, ids[:done][by_row], starts)


def _keyed(batches: Iterable[tuple[Ids, Vectors]]) -> Iterator[tuple[Ids, Vectors, list[bytes]]]:
    """Add a key to every vector: equal ones have the same."""
    for ids, vectors in batches:
        yield ids, vectors, [hashlib.blake2b(vector.data, digest_size=16).digest() for vector in vectors]


def _read_ahead(batches: Iterator[T]) -> Iterator[T]:
    """Prepare one item while the one before is in use: FAISS gives other threads the time it waits for its slowest."""
    with ThreadPoolExecutor(1, thread_name_prefix="imgrec-read-ahead") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch
