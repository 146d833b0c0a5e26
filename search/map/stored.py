"""Maps as tables of a library, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imgrec.search.errors import MapDamagedError
from imgrec.search.indexes.layout import Manifest
from imgrec.search.map.clusters import Cluster
from imgrec.search.map.files import CLUSTERS, FORMAT_VERSION, LINKS, POINTS, MapFacts, MapFolder
from imgrec.search.map.graph import Links
from imgrec.search.map.making import FITTED, LATER, Map, MapParameters

_CLUSTER_COLUMNS = pa.schema(
    [
        ("cluster", pa.int32()),
        ("size", pa.int64()),
        ("medoid", pa.int64()),
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("words", pa.list_(pa.string())),
    ]
)


def publish_map(
    folder: MapFolder, made: Map, manifest: Manifest, photos: int, limit: int | None, parameters: MapParameters
) -> str:
    """Publish a map of an index of so many photos; only for the holder of the library's lock. Return its version."""
    facts = {
        "format_version": FORMAT_VERSION,
        "index": folder.index,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprints": {member.modality: member.fingerprint for member in manifest.members},
        "index_version": manifest.version,
        "photos": photos,
        "mapped": len(made),
        "fitted": int((made.origin == FITTED).sum()),
        "later": int((made.origin == LATER).sum()),
        "limit": limit,
        "graph_photos": int(min(len(made), parameters.graph_points)),
        "graph_threshold": made.links.threshold,
        "min_cluster_size": made.min_cluster_size,
        "parameters": parameters.of_places(),
        "seconds": {stage: round(seconds, 3) for stage, seconds in made.seconds.items()},
        "action": made.action,
    }
    return folder.publish(_tables(made), facts)


def read_map(folder: MapFolder, version: str | None = None) -> tuple[Map, MapFacts]:
    """Read the published version of a map, or another one.

    Raises:
        MapNotFoundError: there is none.
        MapDamagedError: its files are missing or damaged.
    """
    version = version or folder.current_version()
    facts = folder.read_facts(version)
    points, clusters, links = (folder.read_table(version, name) for name in (POINTS, CLUSTERS, LINKS))
    try:
        return _map_of(points, clusters, links, facts), facts
    except (KeyError, ValueError) as error:
        raise MapDamagedError(
            f"{folder.version_dir(version)} is damaged ({error}): `imgrec explore --refit`"
        ) from error


def matching_map(folder: MapFolder, manifest: Manifest, parameters: MapParameters) -> Map | None:
    """Read the published map if its places are of these vectors and parameters, so that it can go on."""
    made, facts = read_map(folder)
    fingerprints = {member.modality: member.fingerprint for member in manifest.members}
    same = facts.fingerprints == fingerprints and facts.parameters == parameters.of_places()
    return made if same and len(made) else None


def _tables(made: Map) -> Mapping[str, pa.Table]:
    axes = {f"{axis}": made.flat[:, place] for place, axis in enumerate("xy")}
    axes |= {f"{axis}3": made.deep[:, place] for place, axis in enumerate("xyz")}
    named = ("cluster", "community", "isolation", "origin")
    points = {"image_id": made.ids, **axes, **{name: getattr(made, name) for name in named}}
    rows = [asdict(cluster) for cluster in made.clusters]
    clusters = [{**row, "cluster": row.pop("number"), "words": list(row["words"])} for row in rows]
    links = {"source": made.links.source, "target": made.links.target, "similarity": made.links.similarity}
    return {
        POINTS: pa.table({name: pa.array(np.ascontiguousarray(column)) for name, column in points.items()}),
        CLUSTERS: pa.Table.from_pylist(clusters, _CLUSTER_COLUMNS),
        LINKS: pa.table({name: pa.array(column) for name, column in links.items()}),
    }


def _map_of(points: pa.Table, clusters: pa.Table, links: pa.Table, facts: MapFacts) -> Map:
    def axes(*names: str) -> NDArray[np.float32]:
        return np.column_stack([_column(points, name) for name in names])

    return Map(
        ids=_column(points, "image_id"),
        flat=axes("x", "y"),
        deep=axes("x3", "y3", "z3"),
        cluster=_column(points, "cluster"),
        community=_column(points, "community"),
        isolation=_column(points, "isolation"),
        origin=_column(points, "origin"),
        clusters=tuple(
            Cluster(row["cluster"], row["size"], row["medoid"], row["x"], row["y"], tuple(row["words"]))
            for row in clusters.to_pylist()
        ),
        links=Links(
            _column(links, "source"), _column(links, "target"), _column(links, "similarity"), facts.graph_threshold
        ),
        min_cluster_size=facts.min_cluster_size,
        action="unchanged",
        seconds=facts.seconds,
    )


def _column(table: pa.Table, name: str) -> Any:
    return np.array(np.from_dlpack(table.column(name).combine_chunks()))  # to_numpy would import pandas
