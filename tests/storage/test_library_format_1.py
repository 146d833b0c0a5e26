"""A library that the first release made is one that this program reads, searches and goes on with."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.catalogue import create_embedder
from imgrec.search import Searcher
from imgrec.storage.library import Library, open_library
from imgrec.storage.mirror import adopt_shards
from imgrec.storage.photos.decoding import decode
from imgrec.storage.queries import run_sql
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards, read_shard
from tests.data.make_library_format_1 import FOLDER, ORIGINAL_ROOT, VECTOR_SETTINGS
from tests.search.libraries import ingest

PATHS = ["a.png", "b.png", "sub/c.png"]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    return open_library(tmp_path / "library")


@pytest.fixture
def fingerprint(library: Library) -> str:
    with Registry.open_for_reading(library.registry_path) as registry:
        (fingerprint,) = registry.fingerprints()
    return fingerprint


def test_its_facts_are_read(library: Library) -> None:
    assert library.format_version == 1
    assert library.images_root == str(ORIGINAL_ROOT)
    assert (library.modalities, library.vector_settings) == (("color",), VECTOR_SETTINGS)


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 200_000


def test_its_images_and_vectors_are_read(library: Library, fingerprint: str) -> None:
    embedder = create_embedder("color", library.vector_settings)
    pictures = [decode((FOLDER / "photos" / path).read_bytes(), 448, 256) for path in PATHS]
    with Registry.open_for_writing(library.registry_path) as registry:
        assert registry.count_images() == {"ok": 3, "failed": 0, "missing": 0}
        assert [row.path for row in registry.images([1, 2, 3]).values()] == PATHS
        stored = registry.vectors("color", fingerprint, [1, 2, 3])
        assert adopt_shards(registry, library.shards_dir) == 0
    assert np.allclose(np.stack(list(stored.values())), embedder.embed(pictures), rtol=0, atol=1e-6)
    (path,) = list_shards(library.shards_dir)
    shard = read_shard(path)
    assert {v.tobytes() for v in shard.vectors} == {v.tobytes() for v in stored.values()}
    assert len(run_sql(library, "SELECT * FROM color JOIN images USING (path)", {"color": fingerprint})[1]) == 3


def test_it_is_searched(library: Library) -> None:
    with Searcher(library.root) as searcher:
        by_id, by_file = searcher.search(["id:3", FOLDER / "photos" / "b.png"])
    assert by_id.hits[0].path == "sub/c.png"
    assert by_file.hits[0].path == "b.png"
    assert [hit.score for hit in (by_id.hits[0], by_file.hits[0])] == pytest.approx([1, 1], abs=1e-5)
    assert len(by_id.hits) == len(by_file.hits) == 3


def test_an_ingest_goes_on_with_it_and_computes_nothing_twice(library: Library, tmp_path: Path) -> None:
    moved = library.with_images_root(tmp_path / "photos")
    shards = list(list_shards(library.shards_dir))
    ingest(moved)
    with Registry.open_for_reading(library.registry_path) as registry:
        assert {i: row.path for i, row in registry.images([1, 2, 3, 4]).items()} == dict(enumerate(PATHS, 1))
        assert registry.count_images() == {"ok": 3, "failed": 0, "missing": 0}
    assert list(list_shards(library.shards_dir)) == shards
    with Searcher(library.root) as searcher:
        assert searcher.search([tmp_path / "photos" / "a.png"])[0].hits[0].id == 1
