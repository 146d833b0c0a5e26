"""Samples of photos: of a stated size, the same for the same seed."""

from collections.abc import Mapping

import numpy as np

from imgrec.search.indexes.vectors import Ids
from imgrec.storage.registry.registry import Registry


def draw(ids: Ids, count: int, seed: int) -> Ids:
    """Draw up to `count` of these ids without repetition, in ascending order."""
    if len(ids) <= count:
        return ids
    return np.sort(np.random.default_rng(seed).choice(ids, count, replace=False))


def draw_gallery(ids: Ids, needed: Ids, among: int, seed: int) -> Ids:
    """Draw up to `among` of these ids, those `needed` always among them; 0: all."""
    if not among or len(ids) <= among:
        return ids
    others = np.setdiff1d(ids, needed, assume_unique=True)
    return np.union1d(draw(others, max(0, among - len(needed)), seed), needed)


def same_contents(registry: Registry, ids: Ids) -> tuple[Ids, Ids]:
    """List what else holds the content of some images, and the images themselves: (place in `ids`, id) of each pair."""
    hashes = registry.content_hashes(np.unique(ids).tolist())
    holders: Mapping[bytes, list[int]] = {content: [] for content in hashes.values()}
    for content, image_id in registry.live_ids_of(list(holders)):
        holders[content].append(image_id)
    pairs = [(place, other) for place, image_id in enumerate(ids.tolist()) for other in holders[hashes[image_id]]]
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
