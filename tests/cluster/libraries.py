"""What a library holds, by content: two of the same photos are compared by it, wherever they were computed."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.shards import list_shards, read_shard


def vectors_of(library: Path) -> dict[str, dict[bytes, NDArray[np.float32]]]:
    """Modality → content hash → vector, from the library's shards."""
    found: dict[str, dict[bytes, NDArray[np.float32]]] = {}
    for path in list_shards(library / "shards"):
        shard = read_shard(path)
        found.setdefault(shard.modality, {}).update(zip(shard.content_hashes, shard.vectors, strict=True))
    return found
