"""The pipeline without an orchestrator: the same library, and an ingest with nothing to do."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.pictures import real_pictures
from imgrec.conf.settings import Settings
from imgrec.flows.pipeline.ingesting import ingest, ingest_nothing
from imgrec.search.searcher import Searcher
from imgrec.storage.registry.registry import Registry
from imgrec.tasks.calls import PlainCalls
from tests.storage.pictures import wait_for_another_ctime

OLD_S = 1_000_000_000


def settings_of(photos: Path, library: Path, **others: object) -> Settings:
    return Settings.load(images_root=photos, library=library, modalities=["color"], workers=2, **others)


def make_old(photos: Path) -> None:
    """Let no file be as young as the clock's grain, or the next scan reads it again."""
    for path in photos.iterdir():
        os.utime(path, (OLD_S, OLD_S))


@pytest.fixture
def ingested(photos: Path, library: Path) -> Settings:
    make_old(photos)
    chosen = settings_of(photos, library)
    ingest(chosen, PlainCalls(0))
    return chosen


def test_nothing_to_do_is_reported_and_changes_nothing(ingested: Settings) -> None:
    report = ingest_nothing(ingested)
    assert report is not None
    assert report.did_nothing
    assert report.scan is not None
    assert (report.scan.found, report.scan.unchanged, report.images["ok"]) == (6, 6, 6)
    assert [(name, built.action, built.manifest.live) for name, built in report.indexes.items()] == [
        ("color", "unchanged", 6)
    ]
    assert len(list((ingested.library / "indexes" / "color" / "versions").iterdir())) == 1


def replace_one(photos: Path) -> None:
    sorted(photos.iterdir())[0].write_bytes(real_pictures()[7].read_bytes())


def drop_a_vector(photos: Path) -> None:
    with Registry.open_for_writing(photos.parent / "library" / "registry.sqlite") as registry:
        registry.connection.execute("DELETE FROM color_vectors WHERE image_id = 1")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a photo is new": lambda photos: (photos / "new.jpg").write_bytes(real_pictures()[7].read_bytes()),
    "a photo is gone": lambda photos: sorted(photos.iterdir())[0].unlink(),
    "a photo is another": replace_one,
    "a photo was touched": lambda photos: os.utime(sorted(photos.iterdir())[0]),
    "an ignore file is new": lambda photos: (photos / ".imgrecignore").write_text(sorted(photos.iterdir())[0].name),
    "a vector is lost": drop_a_vector,
    "a shard is lost": lambda photos: next((photos.parent / "library" / "shards").rglob("*.parquet")).unlink(),
    "a segment is damaged": lambda photos: next((photos.parent / "library").rglob("rows.faiss")).write_bytes(b"x"),
    "the pointer is gone": lambda photos: (photos.parent / "library" / "indexes" / "color" / "current").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_something_to_do_is_seen(change: str, ingested: Settings, photos: Path) -> None:
    wait_for_another_ctime(photos.parent)
    CHANGES[change](photos)
    assert ingest_nothing(ingested) is None
    report = ingest(ingested, PlainCalls(0))
    with Searcher(ingested.library, "color") as searcher:
        assert len(searcher.search(["id:2"], top_k=20)[0].hits) == report.images["ok"]


@pytest.mark.parametrize("change", [{"hnsw_m": 16}, {"ef_search": 32}, {"indexes": ["color"], "ef_construction": 50}])
def test_other_parameters_of_an_index_are_something_to_do(
    change: dict[str, object], ingested: Settings, photos: Path
) -> None:
    assert ingest_nothing(settings_of(photos, ingested.library, **change)) is None


def test_what_is_looked_for_otherwise_is_something_to_do_until_it_is_done(
    ingested: Settings, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    picture = tmp_path / "elsewhere" / "linked.jpg"
    picture.write_bytes(real_pictures()[7].read_bytes())
    os.utime(picture, (OLD_S, OLD_S))
    name = sorted(photos.iterdir())[0].name
    (photos / "link.jpg").symlink_to(picture)
    wait_for_another_ctime(tmp_path)
    assert ingest_nothing(ingested) is not None
    for change, found in (({"exclude": [name]}, 5), ({"follow_links": True}, 6), ({"exclude": []}, 7)):
        changed = settings_of(photos, ingested.library, **change)
        assert ingest_nothing(changed) is None
        report = ingest(changed, PlainCalls(0))
        assert (report.images["ok"], report.did_nothing) == (found, False)
        remembered = ingest_nothing(ingested)
        assert remembered is not None and remembered.scan is not None
        assert remembered.scan.left_out == ({name: 1} if found < 7 else {})


def test_a_new_library_and_failed_photos_that_are_asked_for_are_something_to_do(photos: Path, tmp_path: Path) -> None:
    chosen = settings_of(photos, tmp_path / "none")
    assert ingest_nothing(chosen) is None
    assert not chosen.library.exists()
    (photos / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    make_old(photos)
    ingest(chosen, PlainCalls(0))
    assert ingest_nothing(chosen) is not None
    assert ingest_nothing(chosen, retry_failed=True) is None


def test_a_script_without_a_main_guard_ingests_once_and_imports_no_prefect(photos: Path, library: Path) -> None:
    script = """
import sys
from pathlib import Path
print("run")
from imgrec.conf.settings import Settings
from imgrec.flows.pipeline.ingesting import ingest
from imgrec.tasks.calls import PlainCalls
chosen = Settings.load(images_root=Path(sys.argv[1]), library=Path(sys.argv[2]), modalities=["color"], workers=2)
print(ingest(chosen, PlainCalls(0)).images["ok"], "prefect" in sys.modules)
"""
    for arguments, given in ((["-"], script), ([str(library.parent / "script.py")], None)):
        (library.parent / "script.py").write_text(script)
        done = subprocess.run(
            [sys.executable, *arguments, photos, library], input=given, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("run\n6 False\n", "")
