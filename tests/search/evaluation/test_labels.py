"""Labels: folders, CSV files, and what is wrong with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.search.evaluation.errors import LabelsError
from imgrec.search.evaluation.labels import Labels, read_labels
from imgrec.storage.library import Library, create_library
from imgrec.storage.registry.registry import Registry

PATHS = ("top.jpg", "animals/cats/a.jpg", "animals/dogs/b.jpg", "food/c.jpg", "food/gone.jpg", 'a "name", odd/d.jpg')


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return create_library(tmp_path / "library", tmp_path / "photos", ("color",), {})


@pytest.fixture
def registry(library: Library) -> Iterator[Registry]:
    with Registry.open_for_writing(library.registry_path) as registry:
        registry.connection.executemany(
            """INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status, missing_since)
               VALUES (?, 0, 0, 0, 0, ?, 'ok', ?)""",
            [(path, path.encode().ljust(32), "now" if "gone" in path else None) for path in PATHS],
        )
        yield registry


def as_dict(labels: Labels) -> dict[int, str]:
    return {image: labels.classes[code] for image, code in zip(labels.ids.tolist(), labels.codes.tolist(), strict=True)}


def test_folders_are_classes_the_outermost_or_the_innermost(registry: Registry, library: Library) -> None:
    outer = as_dict(read_labels(registry, library, "folders"))
    assert outer == {2: "animals", 3: "animals", 4: "food", 6: 'a "name", odd'}
    inner = as_dict(read_labels(registry, library, "leaf-folders"))
    assert inner == {2: "animals/cats", 3: "animals/dogs", 4: "food", 6: 'a "name", odd'}


def test_a_csv_names_photos_by_path_and_unknown_ones_are_counted(
    registry: Registry, library: Library, tmp_path: Path
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(
        "path,note,label\n"
        "food/c.jpg,,meal\n"
        f"{library.images_root}/top.jpg,absolute,sky\n"
        "./animals/cats/a.jpg,,cat\n"
        '"a ""name"", odd/d.jpg",quoted,cat\n'
        "food/gone.jpg,missing,meal\n"
        "nowhere.jpg,,cat\n"
        "animals/dogs/b.jpg,no label,\n"
        "food/c.jpg,twice the same,meal\n"
    )
    labels = read_labels(registry, library, str(file))
    assert as_dict(labels) == {1: "sky", 2: "cat", 4: "meal", 6: "cat"}
    assert labels.unknown == 2


def test_a_csv_names_photos_by_id(registry: Registry, library: Library, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_bytes("\ufeffid,label\r\n2,cat\r\nid:4,meal\r\n99,cat\r\nno,cat\r\n99999999999999999999,x\r\n".encode())
    labels = read_labels(registry, library, str(file))
    assert as_dict(labels) == {2: "cat", 4: "meal"}
    assert labels.unknown == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\nnowhere.jpg,cat\n", "no photo of the library has one: 1 of no photo of .*/photos"),
        ("path,label\n", "no photo of the library has one"),
        ("path,label\nfood/c.jpg,cat\ntop.jpg,cat\n", "all are 'cat', and two classes are needed"),
        ("path,label\nfood/c.jpg,cat\nfood/c.jpg,dog\n", "photo id:4 has two labels"),
        ("file,class\nfood/c.jpg,cat\n", "the first line has to name the columns"),
        ("", "the first line has to name the columns"),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(
    registry: Registry, library: Library, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(LabelsError, match=says):
        read_labels(registry, library, str(file))


def test_a_file_that_is_not_there_or_no_text_is_named(registry: Registry, library: Library, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"absent.csv cannot be read .*folders, leaf-folders, or a CSV"):
        read_labels(registry, library, str(tmp_path / "absent.csv"))
    (tmp_path / "bytes.csv").write_bytes(b"path,label\n\xff\xfe,x\n")
    with pytest.raises(LabelsError, match="cannot be read"):
        read_labels(registry, library, str(tmp_path / "bytes.csv"))
