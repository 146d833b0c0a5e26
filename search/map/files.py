"""Where a map lies in a library, and how a version of it is published.

maps/<name>/current                        the name of the version that readers open
maps/<name>/versions/<version>/map.json    what was mapped and how, and the SHA-256 of the other files
maps/<name>/versions/<version>/*.parquet   points, clusters, links
"""

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from imgrec.search.errors import MapDamagedError, MapNotFoundError
from imgrec.search.indexes.layout import KEEP_REPLACED_S
from imgrec.search.names import canonical_name, is_index_name, stored_name
from imgrec.storage.machine.atomic import atomic_path, sync, write_atomic

FORMAT_VERSION = 1
POINTS, CLUSTERS, LINKS = "points", "clusters", "links"
TABLES = (POINTS, CLUSTERS, LINKS)


@dataclass(frozen=True)
class MapFacts:
    """What a version of a map was made of, and how.

    Of the `photos` that the index answers with, `mapped` are on the map: all, or `limit` of them, drawn by id. UMAP
    placed `fitted` of them; the others were placed by their neighbours, `later` of them after the map was made.
    `graph_photos` of them are in the similarity graph, linked from `graph_threshold` on. `parameters` are those that
    change it.
    """

    format_version: int
    index: str
    created: str
    fingerprints: Mapping[str, str]
    index_version: str
    photos: int
    mapped: int
    fitted: int
    later: int
    limit: int | None
    graph_photos: int
    graph_threshold: float
    min_cluster_size: int
    parameters: Mapping[str, float]
    seconds: Mapping[str, float]
    action: str
    sha256: Mapping[str, str]

    def tell(self, shown: int) -> str:
        """Say in words what is on the map, and what of it is on a page that shows so many photos."""
        told = [f"Made {self.created[:16].replace('T', ' ')} UTC of index {self.index}"]
        if self.mapped < self.photos:
            told.append(f"{self.mapped:,} of {self.photos:,} photos, drawn at random")
        if self.fitted < self.mapped:
            told.append(f"UMAP laid out {self.fitted:,}, the others lie beside those most like them")
        if shown < self.mapped:
            told.append(f"shown are {shown:,} of them, drawn at random")
        linked = "" if self.graph_photos == self.mapped else f", of {self.graph_photos:,} photos"
        return "; ".join([*told, f"links from a similarity of {self.graph_threshold:.2f} on{linked}"])


class MapFolder:
    """All paths of one map: of an index, whole or `limit` of its photos."""

    def __init__(self, maps_dir: Path, index: str, limit: int | None = None) -> None:
        self.index = canonical_name(index)
        self.name = stored_name(index) if limit is None else f"{stored_name(index)}-{limit}"
        self.root = maps_dir / self.name
        self.pointer = self.root / "current"

    @classmethod
    def of(cls, path: Path) -> "MapFolder":
        """The map that lies in a folder."""
        index, _, limit = path.name.partition("-")
        return cls(path.parent, index, int(limit) if limit else None)

    def version_dir(self, version: str) -> Path:
        return self.root / "versions" / version

    def current_version(self) -> str:
        """The version that is published.

        Raises:
            MapNotFoundError: none is.
        """
        try:
            return self.pointer.read_text().strip()
        except FileNotFoundError:
            raise MapNotFoundError(f"no map of {self.index} in {self.root.parent}: `imgrec explore` makes it") from None

    def read_facts(self, version: str) -> MapFacts:
        path = self.version_dir(version) / "map.json"
        try:
            return MapFacts(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError) as error:
            raise self._damaged(path, error) from error

    def read_table(self, version: str, name: str) -> pa.Table:
        path = self.version_dir(version) / f"{name}.parquet"
        try:
            with pq.ParquetFile(path) as file:  # read_table would import pandas
                return file.read()
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(path, error) from error

    def verify(self, version: str) -> None:
        """Compare a version's files with their checksums.

        Raises:
            MapDamagedError: one is missing, or another one.
        """
        facts = self.read_facts(version)
        for name in TABLES:
            path = self.version_dir(version) / f"{name}.parquet"
            try:
                if _sha256(path) != facts.sha256.get(name):
                    raise self._damaged(path, "its checksum differs")
            except OSError as error:
                raise self._damaged(path, error) from error

    def publish(self, tables: Mapping[str, pa.Table], facts: Mapping[str, Any]) -> str:
        """Write a version and make it the current one; only for the holder of the library's lock.

        The one before stays a day, for whoever has it open.
        """
        version = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        folder = self.version_dir(version)
        sums = {}
        for name, table in tables.items():
            with atomic_path(folder / f"{name}.parquet") as path:
                pq.write_table(table, path, compression="zstd")
                sums[name] = _sha256(path)
        written = MapFacts(**facts, sha256=sums)
        write_atomic(folder / "map.json", json.dumps(asdict(written), indent=1).encode())
        sync(folder.parent)
        write_atomic(self.pointer, version.encode())
        for path in self.leftovers(KEEP_REPLACED_S):
            shutil.rmtree(path)
        return version

    def leftovers(self, keep_replaced_s: float) -> list[Path]:
        """List the versions that are not current and were replaced longer ago than this."""
        parent = self.version_dir("x").parent
        current = self.pointer.read_text().strip() if self.pointer.is_file() else ""
        folders = [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
        written = sorted((path.stat().st_mtime, path) for path in folders)
        replaced_s = [
            *(when for when, _ in written[1:]),
            0.0,
        ]  # nothing came after the last one: it was never published
        horizon = time.time() - keep_replaced_s
        pairs = zip(written, replaced_s, strict=True)
        return [path for (_, path), when in pairs if path.name != current and when <= horizon]

    def _damaged(self, path: Path, why: object) -> MapDamagedError:
        return MapDamagedError(
            f"{path} is damaged ({why}): `imgrec explore --index {self.index} --refit` makes it anew"
        )


def map_folders(maps_dir: Path) -> list[MapFolder]:
    """All maps that are there, whole or damaged; folders whose names can be no map's are not among them."""
    paths = sorted(path for path in maps_dir.iterdir() if path.is_dir()) if maps_dir.is_dir() else []
    return [MapFolder.of(path) for path in paths if _is_map_name(path.name)]


def _is_map_name(name: str) -> bool:
    index, has_limit, limit = name.partition("-")
    return is_index_name(index) and (limit.isdecimal() if has_limit else True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
