"""The vectors of one index: searched through its reader, and exact as they are stored.

All that finding duplicates asks of the index engine is asked here.
"""

from collections.abc import Iterator

import numpy as np

from imgrec.search.duplicates.likeness import Masks
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.opening import open_reader
from imgrec.search.indexes.source import from_blobs, from_shards
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

# Copies are by far the nearest there are, so few candidates find them (docs/duplicates.md has the numbers).
EF_SEARCH = 16
# So much memory a batch of rows takes, however long they are.
BATCH_BYTES = 2**26


class IndexedVectors:
    """The vectors of the published version of an index, as it has them: those of all its modalities in one row.

    Raises:
        IndexNotFoundError: there is no such index.
        IndexDamagedError: no version of it is whole.
    """

    def __init__(self, library: Library, registry: Registry, index: str) -> None:
        self._library, self._registry = library, registry
        self._reader = open_reader(IndexFolder(library.indexes_dir, index))
        self.index, self.dim = self._reader.manifest.name, self._reader.manifest.dim
        self.members = self._reader.manifest.members
        self.batch_size = max(1, BATCH_BYTES // (4 * self.dim))

    def ids(self) -> Ids:
        """The photos that are there and have such a vector, in ascending order."""
        return self._registry.complete_ids({member.modality: member.fingerprint for member in self.members})

    def masks(self, ids: Ids) -> Masks:
        """Which of the index's modalities each photo has: bit i for the i-th."""
        masks = np.zeros(len(ids), np.uint16)
        for place, member in enumerate(self.members):
            there = self._registry.live_ids(member.modality, member.fingerprint)
            masks |= np.isin(ids, there, assume_unique=True).astype(np.uint16) << np.uint16(place)
        return masks

    def batches(self, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        """Yield (ids, rows) of the photos `ids` (ascending), each once, in the order of where they are stored."""
        if len(self.members) == 1:
            shards_dir = self._library.shards_dir
            yield from from_shards(self._registry, shards_dir, self.members[0], ids, self.batch_size)
        else:
            yield from from_blobs(self._registry, self.members, ids, self.batch_size)

    def rows(self, ids: Ids) -> Vectors:
        """The rows of the photos `ids`, in their order; zeros for those whose vector is gone meanwhile."""
        known, place = np.unique(ids, return_inverse=True)
        rows = np.zeros((len(known), self.dim), np.float32)
        for found, some in from_blobs(self._registry, self.members, known, self.batch_size):
            rows[np.searchsorted(known, found)] = some
        return rows if np.array_equal(known, ids) else rows[place]

    def search(self, rows: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return the inner products and ids of the `k` photos nearest to each row, as IndexReader.search does."""
        return self._reader.search(np.ascontiguousarray(rows, np.float32), k, max(k, EF_SEARCH))
