"""Dates and cameras of photos that were scanned before they were of interest."""

import os
from pathlib import Path

import pytest
from PIL import Image

from imgrec.search import Filter, Searcher
from imgrec.storage import headers
from imgrec.storage.library import Library, create_library
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.exif import NO_EXIF
from imgrec.storage.photos.roots import Roots
from imgrec.storage.queries import run_sql
from imgrec.storage.registry import unread
from imgrec.storage.registry.migrations import MIGRATIONS, schema_version
from imgrec.storage.registry.registry import Registry
from tests.plain import ingest
from tests.search.conftest import SETTINGS
from tests.storage.photos.test_exif import ORIGINAL, block_of

COLUMNS = ("taken", "taken_offset", "camera", "header_read")
CAMERAS = {"a.jpg": ("Canon", "EOS 5D", 2018), "b.jpg": ("Apple", "iPhone 12", 2019), "c.png": ("", "", None)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, (name, (make, model, year)) in enumerate(CAMERAS.items()):
        exif = block_of({} if year is None else {ORIGINAL: f"{year}:05:01 10:00:00"}, make, model)
        Image.new("RGB", (64, 48), (80 * number, 99, 10)).save(folder / name, exif=exif)
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))  # or a scan reads it again, to be sure
    return folder


@pytest.fixture
def library(tmp_path: Path, photos: Path) -> Library:
    return create_library(tmp_path / "library", photos, ("color",), SETTINGS)


def dates(library: Library) -> list[tuple[object, ...]]:
    with Registry.open_for_reading(library.registry_path) as registry:
        return registry.connection.execute("SELECT path, taken, camera FROM images ORDER BY path").fetchall()


EXPECTED = [
    ("a.jpg", "2018-05-01 10:00:00", "Canon EOS 5D"),
    ("b.jpg", "2019-05-01 10:00:00", "Apple iPhone 12"),
    ("c.png", None, None),
]


def make_old(library: Library) -> None:
    """Take out of a registry what its last migration brought."""
    with Registry.open_for_writing(library.registry_path) as registry:
        registry.connection.execute("DROP INDEX images_unread")
        for table in ("images", "probes"):
            for column in COLUMNS:
                registry.connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        registry.connection.execute("PRAGMA user_version = 6")


def stored(library: Library) -> tuple[list[tuple[object, ...]], set[tuple[Path, int]]]:
    with Registry.open_for_reading(library.registry_path) as registry:
        vectors = registry.connection.execute("SELECT * FROM color_vectors ORDER BY image_id").fetchall()
    return vectors, {(path, path.stat().st_mtime_ns) for path in library.root.glob("*/**/*") if path.is_file()}


def test_a_scan_reads_them_and_sql_and_filters_see_them(library: Library) -> None:
    report = ingest(library=library.root)
    assert report.scan is not None
    assert report.scan.headers_read == 0
    assert dates(library) == EXPECTED
    _, found = run_sql(library, "SELECT path FROM images WHERE year(taken) = 2019 AND camera ILIKE '%iphone%'", {})
    assert found == [("b.jpg",)]
    with Searcher(library.root) as searcher:

        def paths(where: Filter | str) -> set[str]:
            return {hit.path for hit in searcher.search(["id:1"], where=where)[0].hits}

        assert paths(Filter(taken="2018..2019")) == {"a.jpg", "b.jpg"}
        assert paths(Filter(taken="2019-05-01")) == paths("taken >= '2019'") == {"b.jpg"}
        assert paths(Filter(taken="2018-05-02..2019-04")) == set()
        assert paths(Filter(cameras=("canon*", "IPHONE"))) == {"a.jpg", "b.jpg"}
        assert paths(Filter(cameras=("eos",))) == {"a.jpg"}
        assert paths(Filter(cameras=("eos*",))) == set()
        assert paths("camera IS NULL") == {"c.png"}


def test_the_next_ingest_reads_those_of_an_older_library_once_and_makes_no_vector(library: Library) -> None:
    ingest(library=library.root)
    before = stored(library)
    make_old(library)
    with Searcher(library.root) as searcher:  # it is searched as it is
        assert len(searcher.search(["id:1"], where="camera IS NULL AND taken IS NULL")[0].hits) == 3
    assert run_sql(library, "SELECT count(*) FROM images WHERE taken IS NULL", {})[1] == [(3,)]
    report = ingest(library=library.root)
    assert report.scan is not None
    assert (report.scan.headers_read, report.scan.read, report.scan.unchanged) == (3, 0, 3)
    assert report.as_json()["headers_read"] == 3
    assert report.embedded is not None
    assert report.embedded.images == 0
    assert dates(library) == EXPECTED
    assert stored(library) == before
    with Registry.open_for_reading(library.registry_path) as registry:
        assert schema_version(registry.connection) == len(MIGRATIONS)
    again = ingest(library=library.root)
    assert again.scan is not None
    assert again.scan.headers_read == 0
    assert again.did_nothing


def test_a_killed_reading_goes_on_where_it_was(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(library=library.root)
    make_old(library)
    monkeypatch.setattr(headers, "_FILES_PER_CALL", 1)

    class KilledError(Exception):
        pass

    def killed(done: int, total: int) -> None:
        if done == 2:
            raise KilledError

    with Registry.open_for_writing(library.registry_path) as registry, WorkerPool(1) as pool:
        with pytest.raises(KilledError):
            headers.read_headers(registry, library.roots, (), pool, 60, False, killed)
        assert unread.count(registry.connection) == 1
        assert headers.read_headers(registry, library.roots, (), pool, 60, False, lambda *_: None) == 1
    assert dates(library) == EXPECTED


def test_what_cannot_be_read_says_nothing_and_is_not_asked_again_unless_it_is_gone(library: Library) -> None:
    ingest(library=library.root)
    make_old(library)
    (Path(library.images_root) / "folder.jpg").mkdir()
    photos = [headers.Unread(i, path, "JPEG") for i, path in enumerate(["gone.jpg", "folder.jpg", "a.jpg"], 1)]
    with Registry.open_for_writing(library.registry_path) as registry:
        found = headers.read_some(library.roots, photos, 60, False)
        assert found == [(2, NO_EXIF), (3, ("2018-05-01 10:00:00", None, "Canon EOS 5D"))]
        unread.record(registry.connection, found)
        assert unread.count(registry.connection) == 1


def test_a_root_that_is_not_there_is_left_alone_until_it_is(tmp_path: Path, photos: Path) -> None:
    (nas := tmp_path / "nas").mkdir()
    (photos / "b.jpg").rename(nas / "b.jpg")
    two = Roots({"laptop": str(photos), "nas": str(nas)})
    library = create_library(tmp_path / "library", two, ("color",), SETTINGS)
    ingest(library=library.root)
    make_old(library)
    nas.rename(away := tmp_path / "away")
    looked_at = []
    for _ in range(2):
        report = ingest(library=library.root)
        assert report.scan is not None
        looked_at.append((report.scan.headers_read, report.did_nothing))
    assert looked_at == [(2, False), (0, True)]
    assert {row[0]: row[1] for row in dates(library)} == {
        "laptop/a.jpg": "2018-05-01 10:00:00", "laptop/c.png": None, "nas/b.jpg": None
    }  # fmt: skip
    away.rename(nas)
    report = ingest(library=library.root)
    assert report.scan is not None
    assert (report.scan.headers_read, report.scan.read) == (1, 0)
    assert dates(library)[2] == ("nas/b.jpg", "2019-05-01 10:00:00", "Apple iPhone 12")


def test_moved_and_changed_photos_keep_or_change_what_is_known(library: Library) -> None:
    ingest(library=library.root)
    make_old(library)
    root = Path(library.images_root)
    (root / "a.jpg").rename(root / "z.jpg")
    (root / "c.png").write_bytes((root / "b.jpg").read_bytes())
    report = ingest(library=library.root)
    assert report.scan is not None
    assert report.scan.headers_read == 1  # b.jpg: the others were read by the scan
    known = {row[0]: row[1:] for row in dates(library)}
    assert known["z.jpg"] == EXPECTED[0][1:]
    with Searcher(library.root) as searcher:
        (answer,) = searcher.search(["id:2"], where=Filter(taken="2019"))
    assert {hit.path for hit in answer.hits} == {"b.jpg", "c.png"}
