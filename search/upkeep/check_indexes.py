"""Checks of models and published indexes. Each yields one kind of finding; the library's own are in storage/."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.embedders.catalogue import check_models, check_stored_models, create_embedders
from imgrec.embedders.errors import EmbedderParameterError, ModelFileError
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.fusion import combine, index_members
from imgrec.search.indexes.layout import IndexFolder, Manifest, Member, SegmentEntry, published_indexes
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.publishing import record_rows
from imgrec.search.indexes.segment import Segment, open_segment, verify_segment
from imgrec.search.indexes.updating import live_ids, update_index
from imgrec.search.indexes.vectors import Ids
from imgrec.search.names import is_index_name
from imgrec.search.upkeep.findings import Check, CheckedLibrary, Finding
from imgrec.storage.registry.changes import look_at_all
from imgrec.storage.registry.index_rows import (
    forget_index,
    forget_segments,
    index_names,
    mirrored_segments,
    segment_rows,
)

# Unless all are asked for, so many rows of each segment are compared with the registry.
SAMPLED_ROWS = 256


@dataclass(frozen=True)
class IndexChecks:
    """The checks that may have to build an index again, with `parameters` where it does not say its own.

    `models_root` is the folder of models that libraries share; without one nothing is said of it.
    """

    parameters: IndexParameters
    models_root: Path | None = None

    def all(self) -> tuple[Check, ...]:
        return (
            check_model_files,
            self.check_stored_models,
            self.check_pointers,
            self.check_files,
            self.check_age,
            self.check_vectors,
            self.check_step,
            check_rows,
        )

    def check_stored_models(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """The models that made the vectors are in the store, for pictures to come."""
        library = checked.library
        if self.models_root is None:
            return
        try:
            check_stored_models(library.modalities, library.vector_settings, self.models_root)
        except ModelFileError as error:
            remedy = "until then the photos that have their vectors are found, and no others"
            yield Finding("models.store", f"new pictures cannot be embedded: {error}", remedy)

    def check_pointers(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """An index that was built is published."""
        indexes_dir = checked.library.indexes_dir
        for path in sorted(indexes_dir.glob("*/segments/")):
            if not is_index_name(path.parent.name):
                what = f"{path.parent} has the files of an index, and none can be called so"
                yield Finding("index.pointer", what, "remove that folder")
                continue
            folder = IndexFolder(indexes_dir, path.parent.name)
            if not folder.pointer.is_file():
                what = f"index {folder.name} has files, and {folder.pointer}, which says of which version, is gone"
                yield Finding("index.pointer", what, *self._anew(checked, folder))

    def check_files(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """The pointer names a version, whose files are whole and fit together."""
        for folder in _folders(checked):
            if (damage := _damage(folder) or _other_bytes(folder)) is not None:
                yield Finding("index.damaged", f"index {folder.name}: {damage}", *self._anew(checked, folder))

    def check_age(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """An index is not newer than the registry, which may have given its ids to other photos since."""
        for folder, manifest in _sound(checked):
            known = mirrored_segments(checked.registry, folder.key)
            if not known.issuperset(entry.name for entry in manifest.segments):
                what = f"index {folder.name} is newer than the registry, which may be a restored one"
                yield Finding("index.newer", what, *self._anew(checked, folder))

    def check_vectors(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """The rows of an index are the vectors of its images. A sample of the rows unless `thorough`."""
        for folder, manifest in _sound(checked):
            wrong = sum(_count_wrong(checked, folder, manifest, entry) for entry in manifest.segments)
            if wrong:
                what = f"index {folder.name}: {wrong:,} rows are not the vectors of their images"
                yield Finding("index.vectors", what, *self._anew(checked, folder))

    def check_step(self, checked: CheckedLibrary) -> Iterator[Finding]:
        """An index answers with exactly the images that are there and have its vectors."""
        for folder, manifest in _sound(checked):
            served = _served(folder, manifest)
            wanted = live_ids(checked.registry, manifest.members)
            missing, gone = len(np.setdiff1d(wanted, served)), len(np.setdiff1d(served, wanted))
            if missing or gone:
                yield Finding(
                    "index.behind",
                    f"index {folder.name} lacks {missing:,} photos that are there and has {gone:,} that are not",
                    "brings it up to date, as `imgrec index build` would",
                    partial(self._update, checked, folder),
                )

    def _anew(self, checked: CheckedLibrary, folder: IndexFolder) -> tuple[str, Callable[[], object] | None]:
        try:
            self._made_of(checked, folder)
        except IndexNotFoundError:
            return f"no index of that name can be built: remove the folder {folder.root}", None
        return "builds it anew from the vectors", partial(self._update, checked, folder, rebuild=True)

    def _update(self, checked: CheckedLibrary, folder: IndexFolder, rebuild: bool = False) -> None:
        members, settings, parameters = self._made_of(checked, folder)
        shards_dir = checked.library.shards_dir
        look_at_all(checked.registry)
        report = update_index(checked.registry, shards_dir, folder, members, settings, parameters, rebuild)
        if report is None:  # nothing is left to build it of
            folder.pointer.unlink(missing_ok=True)

    def _made_of(
        self, checked: CheckedLibrary, folder: IndexFolder
    ) -> tuple[tuple[Member, ...], Mapping[str, Any], IndexParameters]:
        """What an index was made of, or is to be made of where it does not say."""
        library = checked.library
        try:
            manifest = folder.read_manifest()
        except (IndexDamagedError, IndexNotFoundError):
            embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
            specs = {name: embedder.spec for name, embedder in embedders.items()}
            return index_members(folder.name, specs), library.vector_settings, self.parameters
        known = {key: value for key, value in manifest.parameters.items() if hasattr(self.parameters, key)}
        return manifest.members, manifest.vector_settings, replace(self.parameters, **known)


def check_model_files(checked: CheckedLibrary) -> Iterator[Finding]:
    """The models that the settings and the published indexes need are there and whole."""
    library = checked.library
    needed = {"the library": library.vector_settings}
    for folder in _folders(checked):
        if _damage(folder) is None:
            needed[f"index {folder.name}"] = folder.read_manifest().vector_settings
    for who, settings in needed.items():
        try:
            check_models(settings, library.models_dir)
            create_embedders(library.modalities, settings, library.models_dir)
        except (ModelFileError, EmbedderParameterError) as error:
            remedy = "or change the library's mind with `imgrec reembed --sift-codebook default`"
            yield Finding("models", f"{who} needs a model: {error}", remedy)


def check_rows(checked: CheckedLibrary) -> Iterator[Finding]:
    """The table `index_rows` says what the index files say."""
    registry = checked.registry
    for key in sorted({*index_names(registry), *(folder.key for folder in _folders(checked))}):
        if not is_index_name(key):
            what = f"the table index_rows has rows of an index {key!r}, and none can be called so"
            yield Finding("index.rows", what, "removes those rows", partial(forget_index, registry, key))
            continue
        folder = IndexFolder(checked.library.indexes_dir, key)
        published = folder.pointer.is_file()
        if published and _damage(folder) is not None:
            continue
        manifest = folder.read_manifest() if published else None
        wrong = _wrong_segments(checked, folder, manifest)
        if wrong:
            yield Finding(
                "index.rows",
                f"the table index_rows has other rows for index {folder.name} than its files",
                "writes those rows anew",
                partial(_mirror_anew, checked, folder, manifest, wrong),
            )


def _wrong_segments(checked: CheckedLibrary, folder: IndexFolder, manifest: Manifest | None) -> set[str]:
    """The segments whose rows in `index_rows` are not those of the files, or are of no published segment."""
    entries = {entry.name: entry for entry in manifest.segments} if manifest else {}
    known = mirrored_segments(checked.registry, folder.key)
    wrong = known - entries.keys()
    for name in known & entries.keys():
        ids = open_segment(folder.segment_dir(name), entries[name].kind, entries[name].vectors).ids
        rows = segment_rows(checked.registry, folder.key, name)
        # Photos that were forgotten since are in the file only.
        there = np.isin(np.arange(len(ids)), rows[:, 0])
        same = len(rows) == there.sum() and np.array_equal(rows[:, 1], ids[there])
        if not same or len(checked.registry.images(ids[~there].tolist())):
            wrong.add(name)
    return wrong


def _mirror_anew(checked: CheckedLibrary, folder: IndexFolder, manifest: Manifest | None, wrong: set[str]) -> None:
    with checked.registry.transaction():
        forget_segments(checked.registry, folder.key, wrong)
    if manifest is not None:
        record_rows(checked.registry, folder, manifest)


def _folders(checked: CheckedLibrary) -> list[IndexFolder]:
    indexes_dir = checked.library.indexes_dir
    return [IndexFolder(indexes_dir, name) for name in published_indexes(indexes_dir)]


def _sound(checked: CheckedLibrary) -> Iterator[tuple[IndexFolder, Manifest]]:
    for folder in _folders(checked):
        if _damage(folder) is None:
            yield folder, folder.read_manifest()


def _damage(folder: IndexFolder) -> str | None:
    """Why the current version cannot be opened, or serves other deletions than it should."""
    try:
        manifest = folder.read_manifest()
        for entry in manifest.segments:
            open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors)
            if entry.tombstones and folder.read_tombstones(manifest.version, entry).sum() != entry.tombstones:
                return f"version {manifest.version} has other deletions than its manifest says"
    except IndexDamagedError as error:
        return str(error)
    return None


def _other_bytes(folder: IndexFolder) -> str | None:
    for entry in folder.read_manifest().segments:
        try:
            verify_segment(folder.segment_dir(entry.name), thorough=True)
        except IndexDamagedError as error:
            return str(error)
    return None


def _served(folder: IndexFolder, manifest: Manifest) -> Ids:
    """The ids that an index answers with."""
    ids = [np.empty(0, np.int64)]
    for entry in manifest.segments:
        segment = open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors)
        dead = folder.read_tombstones(manifest.version, entry) if entry.tombstones else np.zeros(entry.vectors, bool)
        ids.append(segment.ids[~dead])
    return np.concatenate(ids)


def _count_wrong(checked: CheckedLibrary, folder: IndexFolder, manifest: Manifest, entry: SegmentEntry) -> int:
    """Count rows that are not the vectors of their first image; images that have lost theirs are not counted."""
    segment = open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors)
    rows = segment.opened.rows
    chosen = np.arange(rows)
    if not checked.thorough and rows > SAMPLED_ROWS:
        chosen = np.sort(np.random.default_rng().choice(rows, SAMPLED_ROWS, replace=False))
    return sum(
        _count_wrong_rows(checked, manifest, segment, chosen[start : start + 1_024])
        for start in range(0, len(chosen), 1_024)
    )


def _count_wrong_rows(checked: CheckedLibrary, manifest: Manifest, segment: Segment, rows: Ids) -> int:
    ids = segment.ids[segment.starts[rows]].tolist()
    stored = {m.modality: checked.registry.vectors(m.modality, m.fingerprint, ids) for m in manifest.members}
    there = np.array([any(image_id in found for found in stored.values()) for image_id in ids], bool)
    vectors = {
        member.modality: np.stack(
            [stored[member.modality].get(image_id, np.zeros(member.dim, np.float32)) for image_id in ids]
        )
        for member in manifest.members
    }
    return int((segment.opened.differ(rows, combine(manifest.members, vectors)) & there).sum())
