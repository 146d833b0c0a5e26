"""Where an index's vectors come from: shards for a whole index, BLOB rows for a few."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from search.segment import Ids, Vectors
from storage.errors import ShardError
from storage.registry import Registry
from storage.shards import Shard, list_shards, read_shard


def from_shards(
    registry: Registry, shards_dir: Path, fingerprint: str, wanted: Ids, batch_size: int
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield (ids, vectors) of the images `wanted` (sorted ids), each once, about `batch_size` at a time.

    One shard is in memory at a time. What no readable shard holds comes from the registry's BLOBs.
    """
    waiting = np.ones(len(wanted), bool)
    modality = registry.fingerprints()[fingerprint]
    for path in list_shards(shards_dir, fingerprint):
        try:
            shard = read_shard(path)
        except ShardError:
            continue  # its rows come from the BLOBs below; the next adoption moves it aside
        for start in range(0, len(shard.content_hashes), batch_size):
            ids, rows = _match(registry, shard, slice(start, start + batch_size))
            places = np.searchsorted(wanted, ids)
            places[places == len(wanted)] = 0
            fresh = (wanted[places] == ids) & waiting[places]
            waiting[places[fresh]] = False
            if fresh.any():
                yield ids[fresh], np.ascontiguousarray(shard.vectors[start + rows[fresh]], np.float32)
    yield from from_blobs(registry, modality, fingerprint, wanted[waiting], batch_size)


def from_blobs(
    registry: Registry, modality: str, fingerprint: str, wanted: Ids, batch_size: int
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield (ids, vectors) of the images `wanted` from the registry."""
    for start in range(0, len(wanted), batch_size):
        found = registry.vectors(modality, fingerprint, wanted[start : start + batch_size].tolist())
        if found:
            yield np.fromiter(found, np.int64), np.stack(list(found.values()))


def _match(registry: Registry, shard: Shard, rows: slice) -> tuple[Ids, Ids]:
    """Return the live images of a shard's rows: their ids, and the row (from the slice's start) of each."""
    hashes = shard.content_hashes[rows]
    place = {content_hash: row for row, content_hash in enumerate(hashes)}
    pairs = [(image_id, place[content_hash]) for content_hash, image_id in registry.live_ids_of(hashes)]
    matched = np.array(pairs, np.int64).reshape(-1, 2)
    return matched[:, 0], matched[:, 1]
