"""What nothing refers to goes; what somebody may need stays."""

import hashlib
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.modalities.sift_codebook import SiftCodebook, codebook_path
from imgrec.search import Searcher
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.upkeep.garbage import collect_garbage, find_garbage
from imgrec.search.upkeep.unneeded import Garbage
from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.mirror import adopt_shards
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_files
from imgrec.storage.shards import list_shards, read_shard
from tests.search.conftest import make_library
from tests.search.libraries import ingest

DAY_S = 24 * 3600.0


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make_library(tmp_path)


def change_mind(library: Library) -> Library:
    return library.with_vector_settings({**library.vector_settings, "bins": [4, 4, 4]})


def kinds(garbage: list[Garbage]) -> list[str]:
    return [item.kind for item in garbage]


def files(library: Library) -> dict[str, tuple[str, int]]:
    """Every file but SQLite's own scratch ones, with its digest and size."""
    return {
        str(path.relative_to(library.root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
        for path in library.root.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm", ".lock"))
    }


def hits(library: Library) -> list[tuple[int, float]]:
    with Searcher(library.root) as searcher:
        return [(hit.id, hit.score) for hit in searcher.search(["id:1"])[0].hits]


def test_a_library_in_use_is_no_garbage(library: Library) -> None:
    assert collect_garbage(library.root, keep_replaced_s=0) == []


def test_old_vectors_are_needed_until_the_new_ones_serve(library: Library) -> None:
    changed = change_mind(library)
    assert collect_garbage(library.root, delete=True, keep_replaced_s=0) == []
    ingest(changed)
    assert collect_garbage(library.root, delete=True) == []  # a reader may still have the old index open
    assert len(hits(library)) == 9


def test_old_vectors_go_when_nothing_serves_them(library: Library) -> None:
    ingest(change_mind(library))
    before, answered = files(library), hits(library)

    listed = collect_garbage(library.root, keep_replaced_s=0)

    assert kinds(listed) == ["vectors", "shards", "index version", "index segment"]
    assert listed[0].bytes == 9 * 512 * 4
    assert files(library) == before
    removed = collect_garbage(library.root, delete=True, keep_replaced_s=0)
    assert [item.what for item in removed] == [item.what for item in listed]
    gone = before.keys() - files(library).keys()
    assert sum(item.bytes for item in listed[1:]) == sum(before[name][1] for name in gone)
    assert {Path(name).parts[0] for name in gone} == {"shards", "indexes"}
    assert collect_garbage(library.root, keep_replaced_s=0) == []
    assert hits(library) == answered
    with Registry.open_for_reading(library.registry_path) as registry:
        assert len(registry.fingerprints()) == 1
        assert registry.connection.execute("SELECT count(*) FROM color_vectors").fetchone() == (9,)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_killed_half_way_it_goes_on(library: Library, done: int) -> None:
    ingest(change_mind(library))
    with Registry.open_for_writing(library.registry_path) as registry:
        garbage = list(find_garbage(open_library(library.root), registry, 0))
        for item in garbage[:done]:
            item.remove()
        assert adopt_shards(registry, library.shards_dir) == 0  # what went does not come back
    assert len(collect_garbage(library.root, delete=True, keep_replaced_s=0)) == len(garbage) - done
    assert collect_garbage(library.root, keep_replaced_s=0) == []


def test_a_version_that_a_reader_may_have_open_is_kept_for_a_day(library: Library) -> None:
    folder = IndexFolder(library.indexes_dir, "color")
    reader = IndexReader(folder)
    for photo in sorted(Path(library.images_root).glob("*.png"))[:3]:  # a third: the segment is built anew
        photo.unlink()
    ingest(library)
    assert collect_garbage(library.root, delete=True) == []
    assert folder.manifest_path(reader.manifest.version).exists()
    yesterday = time.time() - DAY_S - 1
    assert kinds(collect_garbage(library.root, keep_replaced_s=0)) == ["index version", "index segment"]
    os.utime(folder.manifest_path(folder.read_manifest().version), (yesterday, yesterday))
    os.utime(folder.manifest_path(reader.manifest.version), (yesterday - 1, yesterday - 1))
    assert len(collect_garbage(library.root, delete=True)) == 2
    assert not folder.manifest_path(reader.manifest.version).exists()


def test_leftovers_of_killed_runs_go(library: Library) -> None:
    before = files(library)
    (shard,) = list_shards(library.shards_dir)
    leftovers = {
        "temporary file": shard.with_name(".tmp-x.parquet"),
        "damaged shard": shard.with_suffix(".damaged"),
        "chunks": library.chunks_dir / "a.json",
        "index segment": library.indexes_dir / "color" / "segments" / "half" / "ids.npy",
        "index version": library.indexes_dir / "color" / "versions" / "half" / "x.npy",
        "shards": library.shards_dir / "color" / ("0" * 16) / "a.parquet",
        "model": library.models_dir / "sift-0123456789abcdef.npz",
    }
    for number, path in enumerate(leftovers.values(), 1):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(number))
    garbage = collect_garbage(library.root, delete=True)
    assert {item.kind: item.bytes for item in garbage} == {kind: n for n, kind in enumerate(leftovers, 1)}
    assert files(library) == before


def test_models_that_the_settings_or_an_index_need_stay(library: Library) -> None:
    random = np.random.default_rng(0)
    models = [
        SiftCodebook(*(random.standard_normal(shape).astype(np.float32) for shape in ((128,), (128, 64), (64, 64))))
        for _ in range(2)
    ]
    for model in models:
        model.save(codebook_path(library.models_dir, model.digest))
    ingest(library.with_vector_settings({**library.vector_settings, "sift_codebook": models[0].digest}))
    assert [item.kind for item in collect_garbage(library.root, keep_replaced_s=0)][-1] == "model"
    library.with_vector_settings({**library.vector_settings, "sift_codebook": models[1].digest})
    collect_garbage(library.root, delete=True, keep_replaced_s=0)
    assert len(list(library.models_dir.iterdir())) == 2
    ingest(open_library(library.root))
    collect_garbage(library.root, delete=True, keep_replaced_s=0)
    assert list(library.models_dir.iterdir()) == [codebook_path(library.models_dir, models[1].digest)]


@pytest.mark.parametrize("damage", ["pointer", "no pointer", "manifest"])
def test_all_that_an_index_may_need_is_kept_when_it_does_not_say_what(
    library: Library, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    ingest(change_mind(library))
    folder = IndexFolder(library.indexes_dir, "color")
    if damage == "pointer":
        folder.pointer.write_text("nonsense")
    elif damage == "no pointer":
        folder.pointer.unlink()
    else:
        folder.manifest_path(folder.current_version() or "").write_text("{")
    ingested = files(library)
    (library.root / ".tmp-killed").write_bytes(b"half")
    removed = collect_garbage(library.root, delete=True, keep_replaced_s=0)
    assert (kinds(removed), files(library)) == (["temporary file"], ingested)
    assert "all of index color is kept" in caplog.text
    ingest(open_library(library.root))
    removed = collect_garbage(library.root, delete=True, keep_replaced_s=0)
    assert {"vectors", "shards", "index version", "index segment"} >= set(kinds(removed)) >= {"vectors", "shards"}


def test_a_library_that_is_written_is_left_alone(library: Library) -> None:
    with writer_lock(library.root), pytest.raises(LibraryLockedError):
        collect_garbage(library.root)


def test_the_registry_gives_space_back(library: Library) -> None:
    with Registry.open_for_writing(library.registry_path) as registry:
        registry.register_fingerprint("0" * 16, "color", 512, {})
        with registry.transaction():
            registry.connection.executemany(
                "INSERT INTO color_vectors VALUES (?, ?, ?)", ((1 + n % 9, "0" * 16, bytes(2**20)) for n in range(9))
            )
    before = library.registry_path.stat().st_size
    collect_garbage(library.root, delete=True)
    assert library.registry_path.stat().st_size < before - 9 * 2**20 + 2**16


# Missing photos


def missing_for(library: Library, days: float, *names: str) -> None:
    for name in names:
        (Path(library.images_root) / name).unlink()
    ingest(library)
    since = (datetime.now(UTC) - timedelta(days=days)).isoformat()
    with Registry.open_for_writing(library.registry_path) as registry:
        registry.connection.executemany(
            "UPDATE images SET missing_since = ? WHERE path = ?", [(since, n) for n in names]
        )


def test_missing_photos_are_kept_unless_asked_for(library: Library) -> None:
    missing_for(library, 4_000, "chelsea.png")
    assert collect_garbage(library.root) == []
    assert collect_garbage(library.root, missing_days=5_000) == []
    (forgotten,) = collect_garbage(library.root, missing_days=3_000)
    assert (forgotten.what, forgotten.bytes) == ("1 missing for more than 3000 days", 2 * 512 * 4)


def test_forgotten_photos_leave_nothing_behind(library: Library) -> None:
    photo = Path(library.images_root) / "chelsea.png"
    data = photo.read_bytes()
    content = hashlib.sha256(data).digest()
    missing_for(library, 40, "chelsea.png", "coffee.png")  # there is a copy of coffee.png

    collect_garbage(library.root, delete=True, keep_replaced_s=0, missing_days=30)

    with Registry.open_for_writing(library.registry_path) as registry:
        assert registry.count_images()["missing"] == 0
        assert registry.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert registry.connection.execute("PRAGMA foreign_keys").fetchone() == (1,)
        known = list(shard_files(registry))
        assert [str(path.relative_to(library.shards_dir)) for path in list_shards(library.shards_dir)] == known
        coffee = registry.connection.execute("SELECT content_hash FROM images WHERE path LIKE 'sub%'").fetchone()[0]
    held = {content for path in list_shards(library.shards_dir) for content in read_shard(path).content_hashes}
    assert content not in held
    assert coffee in held
    assert len(held) == 7
    assert len(hits(library)) == 7

    photo.write_bytes(data)
    ingest(library)
    with Registry.open_for_reading(library.registry_path) as registry:
        (image_id,) = registry.connection.execute("SELECT id FROM images WHERE path = 'chelsea.png'").fetchone()
    assert image_id > 10  # an id is never given again
    assert len(hits(library)) == 8
