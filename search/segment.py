"""A segment: FAISS rows and the image id of each, written once and mapped into memory by readers."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from numpy.typing import NDArray

from search.errors import IndexDamagedError
from storage.atomic import sync

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

HNSW = "hnsw"
FLAT = "flat"


@dataclass(frozen=True)
class Segment:
    """An open segment: row `offset` of `index` belongs to image `ids[offset]`."""

    index: faiss.Index
    ids: Ids


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
    for path in (folder / "index.faiss", folder / "ids.npy", folder):
        sync(path)


def open_segment(folder: Path, vectors: int) -> Segment:
    """Map a segment into memory; pages are read as searches touch them.

    Raises:
        IndexDamagedError: files are missing, or do not hold `vectors` rows.
    """
    try:
        index = faiss.read_index(os.fspath(folder / "index.faiss"), faiss.IO_FLAG_MMAP_IFC)
        ids = np.load(folder / "ids.npy", mmap_mode="r")
    except (RuntimeError, OSError, ValueError) as error:
        raise IndexDamagedError(f"segment {folder} cannot be opened: `imgrec ingest` builds it anew") from error
    if not index.ntotal == len(ids) == vectors:
        raise IndexDamagedError(
            f"segment {folder} holds {index.ntotal} rows and {len(ids)} ids instead of {vectors}: "
            "`imgrec ingest` builds it anew"
        )
    return Segment(index, ids)


def _fill(index: faiss.Index, batches: Iterable[tuple[Ids, Vectors]], total: int) -> Segment:
    ids = np.empty(total, np.int64)
    for batch_ids, vectors in batches:
        ids[index.ntotal : index.ntotal + len(batch_ids)] = batch_ids
        index.add(vectors)
    return Segment(index, ids[: index.ntotal])
