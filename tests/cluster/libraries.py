"""What a library holds, by content: two of the same photos are compared by it, wherever they were computed."""

from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.shards import list_shards, read_shard

# Modality → content hash → vector.
Vectors: TypeAlias = dict[str, dict[bytes, NDArray[np.float32]]]


def vectors_of(library: Path) -> Vectors:
    """Read a library's shards."""
    found: Vectors = {}
    for path in list_shards(library / "shards"):
        shard = read_shard(path)
        found.setdefault(shard.modality, {}).update(zip(shard.content_hashes, shard.vectors, strict=True))
    return found
