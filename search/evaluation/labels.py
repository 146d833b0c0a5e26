"""Which photos are of one class: by their folders, or by a CSV file."""

import csv
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.errors import LabelsError
from imgrec.search.indexes.vectors import Ids
from imgrec.storage.library import Library
from imgrec.storage.photos.paths import printable
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE

FOLDERS, LEAF_FOLDERS = "folders", "leaf-folders"
_ROWS_AT_ONCE = 500
_ID = re.compile(r"(?:id:)?(\d{1,18})")  # no id of SQLite's has more digits


@dataclass(frozen=True)
class Labels:
    """`classes[codes[i]]` is the label of image `ids[i]`; ids ascend. `unknown` counts labels of no photo."""

    ids: Ids
    codes: NDArray[np.int32]
    classes: tuple[str, ...]
    unknown: int = 0


def read_labels(registry: Registry, library: Library, source: str) -> Labels:
    """Read the labels of live photos: of `folders` (the outermost below the library's), `leaf-folders`, or a CSV file.

    A CSV file has a line of headings: `label`, and `path` (relative to the folder of photos, or absolute) or `id`.

    Raises:
        LabelsError: the file is none, labels one photo twice, or there are no labels, or all are the same.
    """
    if source in (FOLDERS, LEAF_FOLDERS):
        labels = _of_folders(registry, source == FOLDERS)
    else:
        labels = _of_csv(registry, library, Path(source))
    if not len(labels.ids):
        unknown = f": {labels.unknown:,} of no photo of {library.images_root}" if labels.unknown else ""
        raise LabelsError(f"labels {source}: no photo of the library has one{unknown}")
    if len(labels.classes) < 2:
        raise LabelsError(f"labels {source}: all are {printable(labels.classes[0])!r}, and two classes are needed")
    return labels


class _Collected:
    def __init__(self) -> None:
        self._ids, self._codes = array("q"), array("i")
        self._classes: dict[str, int] = {}

    def add(self, image_id: int, label: str) -> None:
        self._ids.append(image_id)
        self._codes.append(self._classes.setdefault(label, len(self._classes)))

    def labels(self, source: str, unknown: int = 0) -> Labels:
        ids, codes = np.array(self._ids, np.int64), np.array(self._codes, np.int32)
        order = np.argsort(ids, kind="stable")
        ids, codes = ids[order], codes[order]
        again = ids[1:] == ids[:-1]
        if (again & (codes[1:] != codes[:-1])).any():
            twice = ids[1:][again & (codes[1:] != codes[:-1])][0]
            raise LabelsError(f"labels {source}: photo id:{twice} has two labels; one photo is of one class")
        first = np.concatenate([[True], ~again])[: len(ids)]
        return Labels(ids[first], codes[first], tuple(self._classes), unknown)


def _of_folders(registry: Registry, outermost: bool) -> Labels:
    """Photos in no folder have no label."""
    found = _Collected()
    for image_id, path in registry.connection.execute(f"SELECT id, path FROM images WHERE {LIVE} ORDER BY id"):
        folder, slash, _ = path.partition("/") if outermost else path.rpartition("/")
        if slash:
            found.add(image_id, folder)
    return found.labels(FOLDERS if outermost else LEAF_FOLDERS)


def _of_csv(registry: Registry, library: Library, file: Path) -> Labels:
    found, unknown = _Collected(), 0
    try:
        with open(file, newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            headings = rows.fieldnames or []
            key = next((name for name in ("id", "path") if name in headings), None)
            if key is None or "label" not in headings:
                raise LabelsError(f"{file}: the first line has to name the columns: path,label or id,label")
            find = _by_id if key == "id" else _by_path
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                labelled = [((row[key] or "").strip(), (row["label"] or "").strip()) for row in some]
                ids = find(registry, library, [name for name, _ in labelled])
                for (_, label), image_id in zip(labelled, ids, strict=True):
                    if image_id is not None and label:
                        found.add(image_id, label)
                    unknown += image_id is None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelsError(
            f"labels {file} cannot be read ({error}): give {FOLDERS}, {LEAF_FOLDERS}, or a CSV file of path,label or "
            "id,label"
        ) from error
    return found.labels(str(file), unknown)


def _by_id(registry: Registry, library: Library, names: Sequence[str]) -> list[int | None]:
    matched = [_ID.fullmatch(name) for name in names]
    asked = [int(found[1]) if found else None for found in matched]
    marks = ",".join("?" * len(asked))
    rows = registry.connection.execute(f"SELECT id FROM images WHERE {LIVE} AND id IN ({marks})", asked)
    there = {row[0] for row in rows}
    return [image_id if image_id in there else None for image_id in asked]


def _by_path(registry: Registry, library: Library, names: Sequence[str]) -> list[int | None]:
    root = f"{library.images_root.rstrip('/')}/"
    asked = [name.removeprefix(root).removeprefix("./") for name in names]
    marks = ",".join("?" * len(asked))
    rows = registry.connection.execute(f"SELECT path, id FROM images WHERE {LIVE} AND path IN ({marks})", asked)
    there: dict[str, int] = dict(rows.fetchall())
    return [there.get(name) for name in asked]
