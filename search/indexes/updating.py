"""Keep an index in step with the registry: build it, add to it, take from it, or leave it alone."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes.layout import FORMAT_VERSION, IndexFolder, Manifest, Member, SegmentEntry
from imgrec.search.indexes.publishing import publish, serves_others
from imgrec.search.indexes.recall import measure_recall
from imgrec.search.indexes.segment import (
    FLAT,
    HNSW,
    Ids,
    Mask,
    Segment,
    build_flat,
    build_hnsw,
    open_segment,
    verify_segment,
    write_segment,
)
from imgrec.search.indexes.source import from_blobs, from_shards
from imgrec.storage.registry.changes import is_in_step, settle
from imgrec.storage.registry.index_rows import mirrored_segments
from imgrec.storage.registry.registry import Registry

# An add becomes a segment of its own, for exact search while it is small.
MAX_FLAT_ROWS = 4_096
# Beyond these the index is built anew, as one graph.
MAX_SEGMENTS = 8
MAX_TOMBSTONE_SHARE = 0.2
MAX_ADDED_SHARE = 0.5
# A graph over this many vectors is built in the blink of an eye, so it is not worth two segments.
ALWAYS_REBUILD_BELOW = 5_000
RECALL_K = 10

# A batch of vectors takes no more memory than this, however long they are.
MAX_BATCH_BYTES = 2**26

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexReport:
    """What became of an index.

    `build_s` is from the first look at the registry to segments on disk. `recall` is recall@10 against exact search,
    where a graph was built and measured. Only a `published` version is what readers open.
    """

    manifest: Manifest
    action: str
    added: int
    removed: int
    build_s: float
    bytes: int
    recall: float | None
    published: bool = True


@dataclass(frozen=True)
class IndexParameters:
    """How graphs are built. `index_batch_size` changes memory, not the index."""

    hnsw_m: int
    ef_construction: int
    ef_search: int
    index_batch_size: int
    recall_sample: int

    @property
    def graph(self) -> dict[str, int]:
        """The parameters that a rebuild depends on."""
        return {"hnsw_m": self.hnsw_m, "ef_construction": self.ef_construction}


def update_index(
    registry: Registry,
    shards_dir: Path,
    folder: IndexFolder,
    members: tuple[Member, ...],
    vector_settings: Mapping[str, Any],
    parameters: IndexParameters,
    rebuild: bool = False,
    hold_switch: bool = False,
) -> IndexReport | None:
    """Publish a version that holds exactly the live images that have one of the vectors; None if there are none.

    A few new vectors become a small segment, deleted ones tombstones; the graph is built anew when it does not exist,
    has other parameters or fingerprints, has too many of either, or when a `rebuild` is asked for. Nothing is
    published when nothing changed. With `hold_switch`, a version whose vectors were made with other settings than
    those of the current one is only written: `publish` makes all of them current, one right after the other.
    """
    started = time.perf_counter()
    folder.tidy()
    current = _open_current(registry, folder, members, parameters)
    change = None if current is None else _find_change(registry, members, current)
    parameters_kept = {**parameters.graph, "ef_search": parameters.ef_search}
    if current is not None and change is not None and not (change.needed or rebuild):
        manifest, published = current.manifest, True
        if manifest.parameters != parameters_kept or manifest.vector_settings != vector_settings:
            segments, masks = change.keep(manifest.segments)  # efSearch is read at searching: no segment changes
            published = not (hold_switch and manifest.vector_settings != vector_settings)
            manifest = folder.write_version(members, vector_settings, parameters_kept, segments, masks)
        if published:
            publish(registry, folder, manifest)
        seconds, size = time.perf_counter() - started, folder.size(manifest)
        return IndexReport(manifest, "unchanged", 0, 0, seconds, size, None, published)
    recall, masks, action, build_s, added = None, {}, "built", 0.0, 0
    if change is not None and change.live == 0:
        segments = []
    elif current is None or change is None or change.wants_rebuild or rebuild:
        live = live_ids(registry, members)
        if len(live) == 0:
            return None
        added = len(live)
        batch_size = _batch_size(members, parameters)
        if len(members) == 1:
            source = from_shards(registry, shards_dir, members[0], live, batch_size)
        else:
            source = from_blobs(registry, members, live, batch_size)
        segment = build_hnsw(source, len(live), _dim(members), **parameters.graph)
        segments = [_write(folder, HNSW, segment)]
        build_s = time.perf_counter() - started
        recall = measure_recall(segment, parameters.ef_search, RECALL_K, parameters.recall_sample)
        del segment
    else:
        action = "updated"
        segments, masks = change.keep(current.manifest.segments)
        if len(change.added):
            segments.append(_write_added(registry, folder, members, change.added, parameters))
        build_s = time.perf_counter() - started
    published = not (hold_switch and serves_others(folder, members, vector_settings))
    manifest = folder.write_version(members, vector_settings, parameters_kept, segments, masks)
    if published:
        publish(registry, folder, manifest)
    return IndexReport(
        manifest=manifest,
        action=action,
        added=added if change is None else len(change.added),
        removed=0 if change is None else change.removed,
        build_s=build_s,
        bytes=folder.size(manifest),
        recall=recall,
        published=published,
    )


def look_at_index(
    registry: Registry,
    folder: IndexFolder,
    members: tuple[Member, ...],
    vector_settings: Mapping[str, Any],
    parameters: IndexParameters,
) -> tuple[bool, IndexReport | None]:
    """Whether `update_index` would find nothing to do, and what it would then report; writes nothing."""
    started = time.perf_counter()
    current = _open_current(registry, folder, members, parameters)
    if current is None:
        return len(live_ids(registry, members)) == 0, None
    manifest = current.manifest
    kept = {**parameters.graph, "ef_search": parameters.ef_search}
    if (
        _find_change(registry, members, current).needed
        or (manifest.parameters, manifest.vector_settings) != (kept, vector_settings)
        or folder.current_version() != manifest.version
    ):
        return False, None
    seconds = time.perf_counter() - started
    return True, IndexReport(manifest, "unchanged", 0, 0, seconds, folder.size(manifest), None)


def settle_indexes(registry: Registry, fingerprints: Mapping[str, str], reports: Iterable[IndexReport]) -> None:
    """Note that these indexes, all that there are, were just brought in step, so that the next update looks at less.

    `fingerprints` (by modality) are those that the library computes.
    """
    manifests = [report.manifest for report in reports]
    settle(registry, fingerprints, {m.name: (m.version, fingerprints_of(m.members).values()) for m in manifests})


@dataclass(frozen=True)
class _Current:
    """The version to build upon; `dead[i]` says of each row of segment i whether it is no longer searched."""

    manifest: Manifest
    segments: tuple[Segment, ...]
    dead: tuple[Mask, ...]


@dataclass(frozen=True)
class _Change:
    """The live ids against a version: what to add, how many rows go and come back, and `dead` afterwards."""

    added: Ids
    removed: int
    revived: int
    dead: tuple[Mask, ...]
    live: int

    @classmethod
    def between(cls, current: _Current, live: Ids, touched: Ids | None = None) -> "_Change":
        """Compare a version with the live ids; with `touched`, with those among them, and nothing else changes."""
        indexed = np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in current.segments)])
        added = live[~np.isin(live, indexed)]
        dead = tuple(
            ~np.isin(segment.ids, live)
            if touched is None
            else np.where(np.isin(segment.ids, touched), ~np.isin(segment.ids, live), before)
            for segment, before in zip(current.segments, current.dead, strict=True)
        )
        pairs = list(zip(dead, current.dead, strict=True))
        return cls(
            added=added,
            removed=sum(int((now & ~before).sum()) for now, before in pairs),
            revived=sum(int((before & ~now).sum()) for now, before in pairs),
            dead=dead,
            live=len(added) + sum(int((~mask).sum()) for mask in dead),
        )

    @property
    def needed(self) -> bool:
        return bool(len(self.added) or self.removed or self.revived)

    @property
    def wants_rebuild(self) -> bool:
        rows = sum(map(len, self.dead))
        return (
            self.live < ALWAYS_REBUILD_BELOW
            or len(self.added) > self.live * MAX_ADDED_SHARE
            or len(self.dead) + 1 > MAX_SEGMENTS
            or sum(int(mask.sum()) for mask in self.dead) > rows * MAX_TOMBSTONE_SHARE
        )

    def keep(self, segments: Sequence[SegmentEntry]) -> tuple[list[SegmentEntry], dict[str, Mask]]:
        """Return the segments that still hold a live row, and the masks of those that hold a dead one."""
        kept, masks = [], {}
        for entry, dead in zip(segments, self.dead, strict=True):
            count = int(dead.sum())
            if count < entry.vectors:
                kept.append(replace(entry, tombstones=count))
            if count:
                masks[entry.name] = dead
        return kept, masks


def _find_change(registry: Registry, members: Sequence[Member], current: _Current) -> _Change:
    """Look at the images that changed since this version was in step, or at all where that is not known."""
    if not is_in_step(registry, current.manifest.name, current.manifest.version, fingerprints_of(members).values()):
        return _Change.between(current, live_ids(registry, members))
    live = registry.complete_ids(fingerprints_of(members), touched_only=True)
    return _Change.between(current, live, registry.touched_ids())


def _open_current(
    registry: Registry, folder: IndexFolder, members: tuple[Member, ...], parameters: IndexParameters
) -> _Current | None:
    """Open the current version if it can be built upon: same vectors, same graph, same registry, undamaged."""
    try:
        manifest = folder.read_manifest()
        built_alike = {key: manifest.parameters.get(key) for key in parameters.graph} == parameters.graph
        if manifest.format_version != FORMAT_VERSION or manifest.members != members or not built_alike:
            return None
        if not mirrored_segments(registry, folder.key).issuperset(entry.name for entry in manifest.segments):
            logger.warning("index %s is newer than the registry, which may be a restored one: built anew", folder.name)
            return None
        segments = tuple(open_segment(folder.segment_dir(entry.name), entry.vectors) for entry in manifest.segments)
        for entry in manifest.segments:
            verify_segment(folder.segment_dir(entry.name))
        return _Current(manifest, segments, tuple(_mask(folder, manifest, entry) for entry in manifest.segments))
    except IndexNotFoundError:
        return None
    except IndexDamagedError as error:
        logger.warning("%s", error)
        return None


def _mask(folder: IndexFolder, manifest: Manifest, entry: SegmentEntry) -> Mask:
    if not entry.tombstones:
        return np.zeros(entry.vectors, bool)
    return folder.read_tombstones(manifest.version, entry)


def live_ids(registry: Registry, members: Sequence[Member]) -> Ids:
    """The images that an index of these members answers with: those that are there and have one of its vectors.

    A combined index takes an image when no member is waited for, since a row that is written is never changed.
    """
    return registry.complete_ids(fingerprints_of(members))


def fingerprints_of(members: Sequence[Member]) -> dict[str, str]:
    """Map the modalities of members to their fingerprints."""
    return {member.modality: member.fingerprint for member in members}


def _batch_size(members: Sequence[Member], parameters: IndexParameters) -> int:
    return min(parameters.index_batch_size, max(256, MAX_BATCH_BYTES // (4 * _dim(members))))


def _dim(members: Sequence[Member]) -> int:
    return sum(member.dim for member in members)


def _write_added(
    registry: Registry, folder: IndexFolder, members: Sequence[Member], added: Ids, parameters: IndexParameters
) -> SegmentEntry:
    source = from_blobs(registry, members, added, _batch_size(members, parameters))
    if len(added) <= MAX_FLAT_ROWS:
        return _write(folder, FLAT, build_flat(source, len(added), _dim(members)))
    return _write(folder, HNSW, build_hnsw(source, len(added), _dim(members), **parameters.graph))


def _write(folder: IndexFolder, kind: str, segment: Segment) -> SegmentEntry:
    name = folder.new_segment_name()
    write_segment(folder.segment_dir(name), segment)
    return SegmentEntry(name, kind, len(segment.ids))
