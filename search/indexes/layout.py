"""Where an index lies, and how a version is published.

indexes/<name>/current                              the name of the version that readers open
indexes/<name>/versions/<version>/manifest.json     which segments it has, and what they were made of
indexes/<name>/versions/<version>/<segment>.npy     bitmap of the segment's ids that are no longer searched
indexes/<name>/segments/<segment>/                  the files of its kind, ids.npy, starts.npy, order.npy, and the
                                                    checksums of all; written once, shared by versions
"""

import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.names import canonical_name, is_index_name, stored_name
from imgrec.storage.library import renamed_settings
from imgrec.storage.machine.atomic import atomic_path, write_atomic
from imgrec.storage.machine.filesystems import keeps_open_files

# 1: graphs of vectors at full length. 2: kinds, reduced graphs, rows of bytes.
FORMAT_VERSION = 2
# As long as this, a reader may have a version open that is no longer the current one.
KEEP_REPLACED_S = 24 * 3600.0


@dataclass(frozen=True)
class Member:
    """One modality of an index, and its share of the score."""

    modality: str
    fingerprint: str
    dim: int
    weight: float = 1.0


@dataclass(frozen=True)
class SegmentEntry:
    """A segment as its version sees it: of its `vectors`, one an image, `tombstones` are no longer searched."""

    name: str
    kind: str
    vectors: int
    tombstones: int = 0


@dataclass(frozen=True)
class Made:
    """What was chosen for an index, and measured of it, when its large segment was built (see `Manifest`)."""

    kind: str
    why: str
    ef_search: int
    recall: float | None


@dataclass(frozen=True)
class Manifest:
    """One version of an index. `vector_settings` embed a query the way its vectors were embedded.

    `parameters` are as asked for. `kind` is that of its large segments, and `why` says why it was taken. `ef_search` is
    how many candidates a search looks at unless it says otherwise, and `recall` what that was measured to find.
    """

    format_version: int
    name: str
    version: str
    created: str
    members: tuple[Member, ...]
    vector_settings: Mapping[str, Any]
    parameters: Mapping[str, Any]
    segments: tuple[SegmentEntry, ...]
    kind: str = "hnsw"
    why: str = ""
    ef_search: int = 0
    recall: float | None = None

    @property
    def made(self) -> Made:
        return Made(self.kind, self.why, self.ef_search, self.recall)

    @property
    def dim(self) -> int:
        return sum(member.dim for member in self.members)

    @property
    def live(self) -> int:
        """Rows that are searched."""
        return sum(segment.vectors - segment.tombstones for segment in self.segments)


class IndexFolder:
    """All paths of one index. `name` is what people are shown; `key` names its folder and its rows in `index_rows`.

    Raises:
        IndexNotFoundError: `name` can be no index's.
    """

    def __init__(self, indexes_dir: Path, name: str) -> None:
        self.name = canonical_name(name)
        self.key = stored_name(name)
        self.root = indexes_dir / self.key
        self.pointer = self.root / "current"

    def segment_dir(self, segment: str) -> Path:
        return self.root / "segments" / segment

    def version_dir(self, version: str) -> Path:
        return self.root / "versions" / version

    def manifest_path(self, version: str) -> Path:
        return self.version_dir(version) / "manifest.json"

    def read_tombstones(self, version: str, segment: SegmentEntry) -> NDArray[np.bool_]:
        """Say of each of a segment's ids whether it is no longer searched."""
        path = self.version_dir(version) / f"{segment.name}.npy"
        try:
            return np.unpackbits(np.load(path), count=segment.vectors, bitorder="little").astype(bool)
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise IndexDamagedError(f"{path} is damaged ({error}): the next `imgrec ingest` builds it anew") from error

    def new_segment_name(self) -> str:
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"

    def current_version(self) -> str | None:
        try:
            return self.pointer.read_text("utf-8", "replace").strip()
        except FileNotFoundError:
            return None

    def segments(self) -> list[str]:
        """All segments on disk, whether a version has them or not."""
        return [folder.name for folder in _folders(self.segment_dir("x").parent)]

    def versions(self) -> list[str]:
        """All versions: the one that is published, then the newest first."""
        written = {}
        for folder in _folders(self.version_dir("x").parent):
            with suppress(FileNotFoundError):  # replaced meanwhile, and removed
                written[folder.name] = folder.stat().st_mtime_ns
        current = self.current_version()
        others = sorted(written.keys() - {current}, key=lambda version: written[version], reverse=True)
        return others if current is None else [current, *others]

    def stamp(self) -> tuple[int, int] | None:
        """What changes with every version that is published; cheaper to look at than its name."""
        try:
            status = self.pointer.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns

    def read_manifest(self, version: str | None = None) -> Manifest:
        """Read a version's manifest; without a version, the current one's.

        Raises:
            IndexNotFoundError: nothing is published under this name.
            IndexDamagedError: the manifest is not there or makes no sense.
        """
        version = version or self.current_version()
        if version is None:
            raise IndexNotFoundError(f"no index {self.name!r} in {self.root.parent}: `imgrec ingest` builds it")
        path = self.manifest_path(version)
        try:
            facts = json.loads(path.read_bytes())
            facts["name"] = self.name  # of versions from before this order of modalities, too
            if facts["format_version"] == 1:
                facts["ef_search"] = facts["parameters"]["ef_search"]
            facts["vector_settings"] = renamed_settings(facts["vector_settings"])
            facts["members"] = tuple(Member(**member) for member in facts["members"])
            facts["segments"] = tuple(SegmentEntry(**segment) for segment in facts["segments"])
            return Manifest(**facts)
        except (AttributeError, OSError, ValueError, KeyError, TypeError) as error:
            raise IndexDamagedError(f"{path} is damaged ({error}): the next `imgrec ingest` builds it anew") from error

    def new_manifest(
        self,
        members: Sequence[Member],
        vector_settings: Mapping[str, Any],
        parameters: Mapping[str, Any],
        segments: Sequence[SegmentEntry],
        made: Made,
    ) -> Manifest:
        """A manifest of a version that is not written yet."""
        return Manifest(
            format_version=FORMAT_VERSION,
            name=self.name,
            version=self.new_segment_name(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            members=tuple(members),
            vector_settings=dict(vector_settings),
            parameters=dict(parameters),
            segments=tuple(segments),
            **asdict(made),
        )

    def write_version(self, manifest: Manifest, tombstones: Mapping[str, NDArray[np.bool_]]) -> None:
        """Write a version down, which takes part in nothing until the pointer names it.

        `tombstones` has, for every segment with some, one value an id: whether it is no longer searched.
        """
        for segment in manifest.segments:
            if segment.tombstones:
                with atomic_path(self.version_dir(manifest.version) / f"{segment.name}.npy") as path:
                    np.save(path, np.packbits(tombstones[segment.name], bitorder="little"))
        write_atomic(self.manifest_path(manifest.version), json.dumps(asdict(manifest), indent=1).encode())

    def remove_segment(self, segment: str) -> None:
        """Remove a segment that no version names."""
        shutil.rmtree(self.segment_dir(segment))

    def point_to(self, manifest: Manifest) -> None:
        """Make this version the one that readers open from now on, and remove what they can have no use for.

        The version before is kept, for readers that are just opening it. Older ones go at once where mapped files
        outlive their names; on a network disk, whose other hosts would lose them, a day after they were replaced.
        """
        write_atomic(self.pointer, manifest.version.encode())
        self.tidy()

    def tidy(self) -> None:
        """Remove what no reader has a use for: a killed ingest leaves some."""
        for folder in self.leftovers(0 if keeps_open_files(self.root) else KEEP_REPLACED_S, self.versions()[:2]):
            shutil.rmtree(folder)

    def leftovers(self, keep_replaced_s: float, kept: Sequence[str] = ()) -> list[Path]:
        """List versions that were replaced longer ago than this, and segments that no other version names.

        The current version and those `kept` are never among them. Only for the holder of the library's lock: a version
        that is being written is named by nothing yet.
        """
        versions = self.kept_versions(keep_replaced_s, kept)
        segments = set()
        for version in versions:
            with suppress(IndexDamagedError):  # then it opens for nobody, and says nothing of its segments
                segments |= {entry.name for entry in self.read_manifest(version).segments}
        return [folder for folder in _folders(self.version_dir("x").parent) if folder.name not in versions] + [
            folder for folder in _folders(self.segment_dir("x").parent) if folder.name not in segments
        ]

    def kept_versions(self, keep_replaced_s: float, kept: Sequence[str] = ()) -> set[str]:
        """The versions that a reader may have open: the current one, those `kept`, those not replaced for longer."""
        always = {self.current_version(), *kept}
        horizon = time.time() - keep_replaced_s
        versions = sorted((self._written_s(folder), folder.name) for folder in _folders(self.version_dir("x").parent))
        replaced_s = [*(written_s for written_s, _ in versions[1:]), 0.0]
        return {
            name
            for (written_s, name), when in zip(versions, replaced_s, strict=False)
            if written_s and (name in always or when > horizon)
        }

    def size(self, manifest: Manifest) -> int:
        """Bytes of the segments of a version."""
        folders = (self.segment_dir(segment.name) for segment in manifest.segments)
        return sum(path.stat().st_size for folder in folders for path in folder.iterdir())

    def _written_s(self, version: Path) -> float:
        """When a version was written, in seconds since 1970; 0 if it never was, to its end."""
        try:
            return (version / "manifest.json").stat().st_mtime
        except FileNotFoundError:
            return 0.0


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []


def index_folders(indexes_dir: Path) -> list[IndexFolder]:
    """All indexes that are there, whole or damaged; folders whose names can be no index's are not among them."""
    return [IndexFolder(indexes_dir, path.name) for path in sorted(_folders(indexes_dir)) if is_index_name(path.name)]


def find_index(indexes_dir: Path, name: str) -> IndexFolder:
    """Find an index that is there, whole or damaged, whatever the order in which it is named.

    Raises:
        IndexNotFoundError: it is not.
    """
    there = {folder.key: folder for folder in index_folders(indexes_dir)}
    with suppress(IndexNotFoundError, KeyError):
        return there[stored_name(name)]
    names = ", ".join(sorted(folder.name for folder in there.values())) or "none"
    raise IndexNotFoundError(f"no index {name!r} in {indexes_dir.parent}: there are {names}")


def list_indexes(indexes_dir: Path) -> list[str]:
    """The names of the indexes that can be searched."""
    return sorted(folder.name for folder in index_folders(indexes_dir) if folder.versions())


def published_indexes(indexes_dir: Path) -> list[str]:
    """Those of them whose pointer is there; the others are served by their last version until the next ingest."""
    return [name for name in list_indexes(indexes_dir) if IndexFolder(indexes_dir, name).current_version()]
