"""`imgrec backup`: a copy of a library that is one itself, made while others write the original.

What is immutable is copied first: segments, versions, models, and the shards that the copied registry names. Then the
registry, then the pointers, and last library.json, without which a folder is no library. So a copy that was killed
half-way is still the one of the time before. A second backup copies only what is new.
"""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imgrec.embedders.catalogue import MODEL_PATTERNS, model_files
from imgrec.search.errors import BackupError, IndexDamagedError, MapNotFoundError
from imgrec.search.indexes.layout import KEEP_REPLACED_S, IndexFolder, Manifest, published_indexes
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.publishing import publish
from imgrec.search.map.files import MapFolder, map_folders
from imgrec.search.upkeep.doctor import examine
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.atomic import atomic_path, remove_stale_temporaries, write_atomic
from imgrec.storage.machine.lock import HOLDER, writer_lock
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_files
from imgrec.storage.shards import list_shards
from imgrec.storage.thumbnails.store import pack_paths

MARK = "backup.json"
# How often something may be replaced while it is copied.
ATTEMPTS = 5
# What is so in the middle of an ingest, and the next one ends.
UNDER_WAY = {"index.behind"}


@dataclass
class Backup:
    """A backup that is being made: the files that it has, and of those that were copied now their bytes.

    `trust` says whether files of the right size that are there already are left alone.
    """

    target: Path
    trust: bool = True
    files: set[Path] = field(default_factory=set)
    copied: dict[Path, int] = field(default_factory=dict)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file that never changes, unless it is there.

        Raises:
            _ReplacedError: it is no longer there.
        """
        self.files.add(target)
        try:
            size = source.stat().st_size
            if target in self.copied or (self.trust and target.is_file() and target.stat().st_size == size):
                return
            with atomic_path(target) as temporary:
                shutil.copyfile(source, temporary)
        except FileNotFoundError:
            raise _ReplacedError(f"{source} is gone: run `imgrec doctor --fix`, then back up again") from None
        self.copied[target] = size


class _ReplacedError(BackupError):
    """A file that was to be copied went, as after a merge of shards or the publication of an index."""


def back_up(root: Path, target: Path, parameters: IndexParameters, verify: bool = True) -> Backup:
    """Copy the library at `root` to the folder `target`, which may have an earlier copy of it.

    With `verify`, the copy is checked as by `imgrec doctor`; files that fail are copied again, once.

    Raises:
        BackupError: `target` is something else, or the copy is not sound because the original is not.
    """
    library = open_library(root)
    _check_target(library, target)
    with Registry.open_for_reading(library.registry_path):
        pass  # or else something is wrong that is better told before anything is copied
    findings = []
    for trust in (True, False):
        backup = _copy_all(library, target, trust)
        diagnoses = examine(target, parameters) if verify else []
        findings = [found.finding for found in diagnoses if found.finding.check not in UNDER_WAY]
        if not findings:
            return backup
    raise BackupError(
        f"the copy in {target} is not sound ({findings[0].what}): run `imgrec doctor --fix` on the library, then back "
        "up again"
    )


def _copy_all(library: Library, target: Path, trust: bool) -> Backup:
    target.mkdir(parents=True, exist_ok=True)
    with writer_lock(target):
        remove_stale_temporaries(target)
        _mark(library, target, finished=False)
        backup = Backup(target, trust)
        for attempt in range(1, ATTEMPTS + 1):
            backup.files.clear()
            library = open_library(library.root)
            try:
                _copy(library, replace(library, root=target), backup)
                break
            except (_ReplacedError, IndexDamagedError):
                if attempt == ATTEMPTS:
                    raise
        _mark(library, target, finished=True)
    return backup


def _copy(library: Library, copy: Library, backup: Backup) -> None:
    manifests = [_copy_index(library, copy, name, backup) for name in published_indexes(library.indexes_dir)]
    for settings in (library.vector_settings, *(manifest.vector_settings for manifest in manifests)):
        for path in model_files(settings, library.models_dir):
            backup.copy(path, copy.models_dir / path.name)
    _end_journal(copy.registry_path)
    with atomic_path(copy.registry_path) as temporary:
        _snapshot(library.registry_path, temporary)
        if open_library(library.root).roots != library.roots:
            raise _ReplacedError(f"the folders of photos of {library.root} change: back up again")
        with closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            for name in shard_files(Registry(connection)):
                backup.copy(library.shards_dir / name, copy.shards_dir / name)
    with Registry.open_for_writing(copy.registry_path) as registry:
        for manifest in manifests:
            publish(registry, IndexFolder(copy.indexes_dir, manifest.name), manifest)
    _end_journal(copy.registry_path)
    _copy_thumbnails(library, copy, backup)
    for folder in map_folders(library.maps_dir):
        _copy_map(folder, copy, backup)
    _copy_rest(library, copy)
    copy.save()
    _prune(copy, {manifest.name for manifest in manifests}, backup)


def _copy_index(library: Library, copy: Library, name: str, backup: Backup) -> Manifest:
    source, target = IndexFolder(library.indexes_dir, name), IndexFolder(copy.indexes_dir, name)
    manifest = source.read_manifest()
    for entry in manifest.segments:
        for path in _files(source.segment_dir(entry.name)):
            backup.copy(path, target.segment_dir(entry.name) / path.name)
    for path in _files(source.version_dir(manifest.version)):
        backup.copy(path, target.version_dir(manifest.version) / path.name)
    return manifest


def _copy_thumbnails(library: Library, copy: Library, backup: Backup) -> None:
    """Copy the packs, not the larger ones that were looked at."""
    for path in pack_paths(library.thumbnails_dir):
        backup.copy(path, copy.thumbnails_dir / path.name)


def _copy_map(source: MapFolder, copy: Library, backup: Backup) -> None:
    try:
        version = source.current_version()
    except MapNotFoundError:  # the first one is being made
        return
    target = MapFolder.of(copy.maps_dir / source.name)
    for path in _files(source.version_dir(version)):
        backup.copy(path, target.version_dir(version) / path.name)
    write_atomic(target.pointer, version.encode())


def _copy_rest(library: Library, copy: Library) -> None:
    """Copy what a library can do without: its imgrec.toml, and the runs in MLflow."""
    if library.settings_file.is_file():
        write_atomic(copy.settings_file, library.settings_file.read_bytes())
    for source, target in zip(_mlflow(library), _mlflow(copy), strict=True):
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            with atomic_path(target) as temporary:
                _snapshot(source, temporary)


def _mlflow(library: Library) -> tuple[Path, ...]:
    return library.mlflow_path, library.mlflow_artifacts_dir, library.postponed_runs_dir


def _snapshot(source: Path, target: Path) -> None:
    """Copy a SQLite database as it is at one moment, whoever writes it, into one file without a WAL beside it."""
    uri = f"{source.resolve().as_uri()}?mode=ro"
    with (
        closing(sqlite3.connect(uri, uri=True, timeout=60)) as original,
        closing(sqlite3.connect(target, isolation_level=None)) as copied,
    ):
        original.backup(copied)
        # An exclusive connection needs no shared memory, which the disk of a backup may not have.
        copied.execute("PRAGMA locking_mode = EXCLUSIVE")
        copied.execute("PRAGMA journal_mode = DELETE")


def _end_journal(path: Path) -> None:
    """Bring everything into the one file: a WAL left beside it would be played upon the file that replaces it."""
    if path.is_file():
        try:
            with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as connection:
                connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for suffix in ("-wal", "-shm"):  # the copy has rotted, and is about to be replaced
                path.with_name(path.name + suffix).unlink(missing_ok=True)


def _prune(copy: Library, indexes: set[str], backup: Backup) -> None:
    """Remove what the original no longer has."""
    models = [path for pattern in MODEL_PATTERNS for path in copy.models_dir.glob(pattern)]
    for path in [*list_shards(copy.shards_dir), *models, *pack_paths(copy.thumbnails_dir)]:
        if path not in backup.files:
            path.unlink()
    for drawn in map_folders(copy.maps_dir):
        copied = any(path.is_relative_to(drawn.root) for path in backup.files)
        for path in drawn.leftovers(KEEP_REPLACED_S) if copied else [drawn.root]:
            shutil.rmtree(path)
    for name in published_indexes(copy.indexes_dir):
        folder = IndexFolder(copy.indexes_dir, name)
        for path in folder.leftovers(KEEP_REPLACED_S) if name in indexes else [folder.root]:
            shutil.rmtree(path)


def _check_target(library: Library, target: Path) -> None:
    here, there = library.root.resolve(), target.resolve()
    if there.is_relative_to(here):
        raise BackupError(f"{target} is inside of the library: name a folder elsewhere, best on another disk")
    if not target.is_dir() or not {entry.name for entry in target.iterdir()} - {".lock", HOLDER}:
        return
    try:
        mark: dict[str, Any] = json.loads((target / MARK).read_bytes())
    except (FileNotFoundError, ValueError):
        raise BackupError(f"{target} holds other things: name an empty or new folder, or an earlier backup") from None
    if mark.get("library_uuid") != library.uuid:
        raise BackupError(f"{target} is a backup of another library ({mark.get('library')}): name another folder")
    if mark.get("registry") is not None and mark["registry"] != _stamp(target):
        raise BackupError(
            f"{target} was used as a library since it was a backup, and may have what this one has not: name another "
            f"folder, or remove {target / MARK} and everything beside it"
        )


def _mark(library: Library, target: Path, finished: bool) -> None:
    facts = {
        "library": str(library.root),
        "library_uuid": library.uuid,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "registry": _stamp(target) if finished else None,
    }
    write_atomic(target / MARK, json.dumps(facts, indent=1).encode())


def _stamp(target: Path) -> list[int]:
    status = (target / "registry.sqlite").stat()
    return [status.st_size, status.st_mtime_ns]


def _files(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except FileNotFoundError:
        raise _ReplacedError(f"{folder} is gone: run `imgrec doctor --fix`, then back up again") from None
