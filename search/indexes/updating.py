"""Keep an index in step with the registry: build it, add to it, take from it, or leave it alone."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes.adding import add_to
from imgrec.search.indexes.building import Source, build_index, outgrows
from imgrec.search.indexes.change import Change, Current
from imgrec.search.indexes.layout import FORMAT_VERSION, IndexFolder, Made, Manifest, Member, SegmentEntry
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.publishing import publish, serves_others
from imgrec.search.indexes.segment import open_segment, verify_segment
from imgrec.search.indexes.vectors import Ids, Mask
from imgrec.storage.registry.changes import is_in_step, settle
from imgrec.storage.registry.index_rows import mirrored_segments
from imgrec.storage.registry.registry import Registry

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexReport:
    """What became of an index.

    `build_s` is from the first look at the registry to segments on disk. `recall` is recall@10 against exact search,
    where the index was built and measured. Only a `published` version is what readers open.
    """

    manifest: Manifest
    action: str
    added: int
    removed: int
    build_s: float
    bytes: int
    recall: float | None
    published: bool = True


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

    New vectors go into small segments, deleted ones become tombstones; the large segment is built anew when it does not
    exist, has other parameters or fingerprints, has too many tombstones, or when a `rebuild` is asked for. Nothing is
    published when nothing changed. With `hold_switch`, a version whose vectors were made with other settings than
    those of the current one is only written: `publish` makes all of them current, one right after the other. The
    indexes of a combination's modalities come before it.
    """
    started = time.perf_counter()
    folder.tidy()
    current = _open_current(registry, folder, members, parameters)
    change = None if current is None else _find_change(registry, members, current)
    if current is not None and change is not None and not (change.needed or rebuild):
        return _leave(registry, folder, current, vector_settings, parameters, hold_switch, started)
    source = Source(registry, shards_dir, members, np.empty(0, np.int64), parameters.index_batch_size)
    masks: dict[str, Mask] = {}
    if current is None or change is None or rebuild or _wants_rebuild(current, change, parameters):
        source = source.of(live_ids(registry, members))
        if len(source.live) == 0 and change is None:
            return None
        action, added = "built", len(source.live)
        segments, made = _build(folder, source, parameters)
    else:
        action, added, made = "updated", len(change.added), current.manifest.made
        segments, masks = add_to(folder, source, current, change, parameters)
    build_s = time.perf_counter() - started
    published = not (hold_switch and serves_others(folder, members, vector_settings))
    manifest = folder.new_manifest(members, vector_settings, parameters.kept, segments, made)
    folder.write_version(manifest, masks)
    if published:
        publish(registry, folder, manifest)
    return IndexReport(
        manifest=manifest,
        action=action,
        added=added if change is None else len(change.added),
        removed=0 if change is None else change.removed,
        build_s=build_s,
        bytes=folder.size(manifest),
        recall=made.recall if action == "built" else None,
        published=published,
    )


def _wants_rebuild(current: Current, change: Change, parameters: IndexParameters) -> bool:
    return change.wants_rebuild or outgrows(current.manifest, change.live, parameters)


def _build(folder: IndexFolder, source: Source, parameters: IndexParameters) -> tuple[list[SegmentEntry], Made]:
    if len(source.live) == 0:
        return [], Made("exact", "nothing is left", 0, None)
    entry, made = build_index(folder, source, parameters)
    return [entry], made


def _leave(
    registry: Registry,
    folder: IndexFolder,
    current: Current,
    vector_settings: Mapping[str, Any],
    parameters: IndexParameters,
    hold_switch: bool,
    started: float,
) -> IndexReport:
    """Keep the segments as they are; parameters and settings that no segment depends on make a new manifest."""
    manifest, published = current.manifest, True
    if manifest.parameters != parameters.kept or manifest.vector_settings != vector_settings:
        made = current.manifest.made
        if parameters.ef_search:
            made = Made(made.kind, made.why, parameters.ef_search, None)
        published = not (hold_switch and manifest.vector_settings != vector_settings)
        manifest = folder.new_manifest(manifest.members, vector_settings, parameters.kept, manifest.segments, made)
        folder.write_version(manifest, current.masks)
    if published:
        publish(registry, folder, manifest)
    return IndexReport(
        manifest, "unchanged", 0, 0, time.perf_counter() - started, folder.size(manifest), None, published
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
    if (
        _find_change(registry, members, current).needed
        or (manifest.parameters, manifest.vector_settings) != (parameters.kept, vector_settings)
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


def _find_change(registry: Registry, members: Sequence[Member], current: Current) -> Change:
    """Look at the images that changed since this version was in step, or at all where that is not known."""
    if not is_in_step(registry, current.manifest.name, current.manifest.version, fingerprints_of(members).values()):
        return Change.between(current, live_ids(registry, members))
    live = registry.complete_ids(fingerprints_of(members), touched_only=True)
    return Change.between(current, live, registry.touched_ids())


def _open_current(
    registry: Registry, folder: IndexFolder, members: tuple[Member, ...], parameters: IndexParameters
) -> Current | None:
    """Open the current version if it can be built upon: same vectors, same graph, same registry, undamaged."""
    try:
        manifest = folder.read_manifest()
        built_in = parameters.built_in
        built_alike = {key: manifest.parameters.get(key) for key in built_in} == built_in
        was_tuned = (None, parameters.target_recall)
        tuned_alike = (manifest.parameters.get("ef_search"), manifest.parameters.get("target_recall")) == was_tuned
        if manifest.format_version != FORMAT_VERSION or manifest.members != members or not built_alike:
            return None
        if not (parameters.ef_search or tuned_alike):
            return None
        if not mirrored_segments(registry, folder.key).issuperset(entry.name for entry in manifest.segments):
            logger.warning("index %s is newer than the registry, which may be a restored one: built anew", folder.name)
            return None
        segments = tuple(
            open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors) for entry in manifest.segments
        )
        for entry in manifest.segments:
            verify_segment(folder.segment_dir(entry.name))
        return Current(manifest, segments, tuple(_mask(folder, manifest, entry) for entry in manifest.segments))
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
