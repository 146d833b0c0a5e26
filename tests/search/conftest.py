"""Libraries of vectors, and one of real pictures."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.pictures import real_pictures
from imgrec.storage.library import Library, create_library
from tests.search.libraries import VectorLibrary, ingest, open_vector_library

PICTURES = ("astronaut", "chelsea", "coffee", "rocket", "flower", "china", "camera", "grace_hopper")
SETTINGS = {"bins": [8, 8, 8], "decode_min_side": 128}


@pytest.fixture
def vectors(tmp_path: Path) -> Iterator[VectorLibrary]:
    with open_vector_library(tmp_path, dim=8) as library:
        yield library


def make_library(home: Path, modalities: tuple[str, ...] = ("color",)) -> Library:
    """Ingest eight real pictures, a copy of one of them, and a file that is none; `library` beside `photos`."""
    photos = home / "photos"
    (photos / "sub").mkdir(parents=True)
    for path in real_pictures():
        if path.stem in PICTURES:
            (photos / path.name).write_bytes(path.read_bytes())
    (photos / "sub" / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "coffee.png").read_bytes())
    (photos / "broken.jpg").write_bytes(b"no picture")
    library = create_library(home / "library", photos, modalities, SETTINGS)
    ingest(library)
    return library


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A library of real pictures that all tests share: nobody may change it."""
    return make_library(tmp_path_factory.mktemp("pictures"))
