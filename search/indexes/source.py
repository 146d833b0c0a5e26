"""Where an index's vectors come from: shards for the whole index of one modality, else BLOB rows.

Shards of several modalities do not hold the same images in the same order, so combined rows are put together from the
registry, which finds them by id.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from imgrec.search.fusion import combine
from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.errors import ShardError
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, list_shards, read_shard

_SAMPLED_AT_ONCE = 1_024


def from_shards(
    registry: Registry, shards_dir: Path, member: Member, wanted: Ids, batch_size: int
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield (ids, vectors) of the images `wanted` (sorted ids), each once, up to `batch_size` of a shard at a time.

    What no readable shard holds comes from the registry's BLOBs.
    """
    waiting = np.ones(len(wanted), bool)
    for shard in _read_ahead(_sound_shards(shards_dir, member.fingerprint)):
        for start in range(0, len(shard.content_hashes), batch_size):
            ids, rows = _match(registry, shard, slice(start, start + batch_size))
            places = np.searchsorted(wanted, ids)
            places[places == len(wanted)] = 0
            fresh = (wanted[places] == ids) & waiting[places]
            waiting[places[fresh]] = False
            if fresh.all() and np.array_equal(rows, np.arange(len(shard.content_hashes[start : start + batch_size]))):
                yield ids, shard.vectors[start : start + batch_size]
            elif fresh.any():
                yield ids[fresh], shard.vectors[start + rows[fresh]]
    yield from from_blobs(registry, [member], wanted[waiting], batch_size)


def from_blobs(
    registry: Registry, members: Sequence[Member], wanted: Ids, batch_size: int
) -> Iterator[tuple[Ids, Vectors]]:
    """Yield (ids, combined vectors) of the images `wanted` from the registry; an image needs one of the members."""
    for start in range(0, len(wanted), batch_size):
        ids = wanted[start : start + batch_size]
        place = {image_id: row for row, image_id in enumerate(ids.tolist())}
        known = np.zeros(len(ids), bool)
        vectors = {}
        for member in members:
            rows = vectors[member.modality] = np.zeros((len(ids), member.dim), np.float32)
            for image_id, vector in registry.vectors(member.modality, member.fingerprint, ids.tolist()).items():
                rows[place[image_id]] = vector
                known[place[image_id]] = True
        if known.any():
            combined = combine(members, vectors)
            yield ids[known], combined if known.all() else combined[known]


def sample(registry: Registry, members: Sequence[Member], live: Ids, count: int) -> tuple[Ids, Vectors]:
    """The ids and vectors of up to `count` images, spread evenly over the sorted ids `live`."""
    chosen = live[np.unique(np.linspace(0, len(live) - 1, min(count, len(live))).astype(np.int64))]
    batches = list(from_blobs(registry, members, chosen, _SAMPLED_AT_ONCE))
    dim = sum(member.dim for member in members)
    ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in batches)])
    return ids, np.concatenate([np.empty((0, dim), np.float32), *(vectors for _, vectors in batches)])


def _sound_shards(shards_dir: Path, fingerprint: str) -> Iterator[Shard]:
    for path in list_shards(shards_dir, fingerprint):
        try:
            shard = read_shard(path)
        except ShardError:
            continue  # its rows come from the BLOBs; the next adoption moves it aside
        yield shard


def _read_ahead(shards: Iterator[Shard]) -> Iterator[Shard]:
    """Read one shard while the one before is in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="imgrec-read-ahead") as reader:
        coming = reader.submit(next, shards, None)
        while (shard := coming.result()) is not None:
            coming = reader.submit(next, shards, None)
            yield shard


def _match(registry: Registry, shard: Shard, rows: slice) -> tuple[Ids, Ids]:
    """Return the live images of a shard's rows: their ids, and the row (from the slice's start) of each."""
    hashes = shard.content_hashes[rows]
    place = {content_hash: row for row, content_hash in enumerate(hashes)}
    pairs = [(place[content_hash], image_id) for content_hash, image_id in registry.live_ids_of(hashes)]
    matched = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return matched[:, 1], matched[:, 0]
