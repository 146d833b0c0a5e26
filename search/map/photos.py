"""The photos of an index and their vectors, as a map reads them: the one place that knows where they come from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from imgrec.search.indexes.layout import IndexFolder, Manifest
from imgrec.search.indexes.opening import Reader, open_reader
from imgrec.search.indexes.source import from_blobs, from_shards
from imgrec.search.indexes.updating import live_ids
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.map.neighbours import Find, finder_among, finder_of
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry

_BATCH_BYTES = 32 * 2**20
# Reading shards reads all of them.
_SHARDS_FROM_SHARE = 0.5
# A map of so much of an index asks that one, and leaves what is not on the map.
_INDEX_FROM_SHARE = 0.7


@dataclass(frozen=True)
class Photos:
    """The photos that an index answers with: `ids` ascending."""

    library: Library
    registry: Registry
    reader: Reader
    ids: Ids

    @classmethod
    def open(cls, library: Library, registry: Registry, index: str) -> "Photos":
        """Open an index.

        Raises:
            IndexNotFoundError: there is none of this name.
        """
        reader = open_reader(IndexFolder(library.indexes_dir, index))
        return cls(library, registry, reader, live_ids(registry, reader.manifest.members))

    @property
    def manifest(self) -> Manifest:
        return self.reader.manifest

    def vectors_of(self, ids: Ids) -> Iterator[tuple[Ids, Vectors]]:
        """Yield (ids, vectors) of these photos (ascending), some at a time, in any order."""
        members = self.manifest.members
        batch_size = max(256, _BATCH_BYTES // (4 * self.manifest.dim))
        if len(members) == 1 and len(ids) > _SHARDS_FROM_SHARE * len(self.ids):
            yield from from_shards(self.registry, self.library.shards_dir, members[0], ids, batch_size)
        else:
            yield from from_blobs(self.registry, members, ids, batch_size)

    def finder(self, ids: Ids) -> Find:
        """Return what finds neighbours among these photos, and maybe others."""
        if len(ids) >= _INDEX_FROM_SHARE * len(self.ids):
            return finder_of(self.reader)
        return finder_among(self.vectors_of(ids), self.manifest.dim)

    def sample(self, ids: Ids) -> Vectors:
        """The vectors of a few photos, in memory."""
        parts = [vectors for _, vectors in from_blobs(self.registry, self.manifest.members, ids, len(ids) or 1)]
        return np.concatenate(parts) if parts else np.empty((0, self.manifest.dim), np.float32)
