"""A map as one HTML file that opens offline: Plotly, the points, and their thumbnails inside of it."""

import base64
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import numpy as np

from imgrec.search.indexes.vectors import Ids
from imgrec.search.map.drawing import draw
from imgrec.search.map.making import Map
from imgrec.storage.machine.atomic import atomic_path

_DATA = "imgrec.search.map.data"


def shown_photos(made: Map, count: int, seed: int) -> Ids:
    """The photos of a map that its page shows: all, or `count` of them, with those that stand for clusters."""
    medoids = np.array([cluster.medoid for cluster in made.clusters[:count]], np.int64)
    return np.union1d(draw(np.setdiff1d(made.ids, medoids), count - len(medoids), seed), medoids)


def write_page(
    path: Path,
    made: Map,
    shown: Ids,
    title: str,
    told: str,
    paths: Mapping[int, str] | None,
    thumbnails: Mapping[int, bytes],
) -> None:
    """Write the page of a map.

    `shown` are photos of the map, ascending; `paths` are theirs, or None to leave names and folders out; `thumbnails`
    are WebP, by id. What is `told` stands below the title.
    """
    from plotly.offline import get_plotlyjs

    parts = {name: (files(_DATA) / f"map.{name}").read_text("utf-8") for name in ("html", "css", "js")}
    data = json.dumps(_page_data(made, shown, paths, thumbnails), ensure_ascii=False, separators=(",", ":"))
    page = Template(parts["html"]).substitute(
        title=html.escape(title),
        told=html.escape(told),
        css=parts["css"],
        js=parts["js"],
        plotly=get_plotlyjs(),
        data=data.replace("<", "\\u003c"),  # a file may be called </script>
    )
    with atomic_path(path) as temporary:
        temporary.write_text(page, "utf-8", errors="backslashreplace")


def _page_data(
    made: Map, shown: Ids, paths: Mapping[int, str] | None, thumbnails: Mapping[int, bytes]
) -> dict[str, Any]:
    rows = np.searchsorted(made.ids, shown)
    row_of = {image_id: row for row, image_id in enumerate(shown.tolist())}
    names = None if paths is None else [paths.get(image_id, "") for image_id in shown.tolist()]
    folders = [str(PurePosixPath(name).parent) for name in names or [""] * len(shown)]
    numbers = {folder: number for number, folder in enumerate(dict.fromkeys(sorted(folders)))}
    both = np.isin(made.links.source, shown) & np.isin(made.links.target, shown)
    links = (made.links.source[both], made.links.target[both], made.links.similarity[both])
    return {
        "ids": shown.tolist(),
        "paths": names,
        "folder": [numbers[folder] for folder in folders],
        **{axis: _rounded(made.flat[rows, place]) for place, axis in enumerate(("x", "y"))},
        **{axis: _rounded(made.deep[rows, place]) for place, axis in enumerate(("x3", "y3", "z3"))},
        "cluster": made.cluster[rows].tolist(),
        "community": made.community[rows].tolist(),
        "isolation": _rounded(made.isolation[rows]),
        "thumbnails": [base64.b64encode(thumbnails.get(image_id, b"")).decode() for image_id in shown.tolist()],
        "links": [
            [row_of[source], row_of[target], round(similarity, 3)]
            for source, target, similarity in zip(*(column.tolist() for column in links), strict=True)
        ],
        "clusters": [
            {
                "number": cluster.number,
                "size": cluster.size,
                "row": row_of.get(cluster.medoid),
                "words": list(cluster.words),
                "x": round(cluster.x, 3),
                "y": round(cluster.y, 3),
            }
            for cluster in made.clusters
        ],
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 3) for value in values.tolist()]
