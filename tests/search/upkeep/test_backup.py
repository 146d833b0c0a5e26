"""A backup is a library: sound, whole, of one moment, and made anew it costs only what is new."""

import json
import shutil
import threading
from pathlib import Path

import pytest

from imgrec.search import Searcher
from imgrec.search.errors import BackupError
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.upkeep.backup import Backup, back_up
from imgrec.search.upkeep.doctor import examine
from imgrec.search.upkeep.garbage import collect_garbage
from imgrec.storage.library import Library, is_library, open_library
from imgrec.storage.shards import list_shards
from tests.search.conftest import make_library
from tests.search.libraries import PARAMETERS, ingest
from tests.search.upkeep.test_doctor import flip, segment_of, shard_of


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return make_library(tmp_path)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "disk" / "backup"


def hits(root: Path) -> list[tuple[int, str, float]]:
    with Searcher(root) as searcher:
        return [(hit.id, hit.path, hit.score) for hit in searcher.search(["id:1"])[0].hits]


def names(backup: Backup) -> set[str]:
    return {path.name for path in backup.copied}


def add_photo(library: Library, name: str, trailing: bytes) -> None:
    root = Path(library.images_root)
    (root / name).write_bytes((root / "coffee.png").read_bytes() + trailing)


def test_a_copy_is_a_library_with_the_same_answers(library: Library, target: Path) -> None:
    (library.root / "imgrec.toml").write_text("top_k = 3\n")
    back_up(library.root, target, PARAMETERS)
    assert hits(target) == hits(library.root)
    assert examine(target, PARAMETERS, thorough=True) == []
    assert (target / "imgrec.toml").read_text() == "top_k = 3\n"
    assert not list(target.glob("registry.sqlite-*"))  # one file, which opens on a read-only disk too
    assert open_library(target).uuid == library.uuid


def test_a_second_backup_copies_what_is_new(library: Library, target: Path) -> None:
    first = back_up(library.root, target, PARAMETERS)
    assert {"rows.faiss", "ids.npy", shard_of(library).name} < names(first)
    again = back_up(library.root, target, PARAMETERS)
    assert (again.copied, again.files) == ({}, first.files)
    old = {path.name for path in list_shards(library.shards_dir)}
    add_photo(library, "new.png", b"1")
    ingest(library)

    third = back_up(library.root, target, PARAMETERS)

    assert not old & names(third)
    assert hits(target) == hits(library.root)
    assert len(hits(target)) == 10
    for folder in (IndexFolder(home / "indexes", "color") for home in (library.root, target)):
        assert len(list((folder.root / "versions").iterdir())) == 2  # the one before is kept, for readers of the copy


def test_what_the_library_no_longer_has_leaves_the_copy(library: Library, target: Path) -> None:
    back_up(library.root, target, PARAMETERS)
    (old,) = list_shards(target / "shards")
    ingest(library.with_vector_settings({**library.vector_settings, "bins": [4, 4, 4]}))
    collect_garbage(library.root, delete=True, keep_replaced_s=0)
    back_up(library.root, target, PARAMETERS)
    (new,) = list_shards(target / "shards")
    assert old != new
    assert hits(target) == hits(library.root)


def test_copies_are_sound_while_others_write(library: Library, target: Path) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def keep_changing() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                add_photo(library, f"extra{number % 3}.png", bytes([number % 256]))
                ingest(library)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    writer = threading.Thread(target=keep_changing)
    writer.start()
    try:
        for _ in range(8):
            back_up(library.root, target, PARAMETERS)
            found = hits(target)
            assert {path for _, path, _ in found} >= {"coffee.png", "chelsea.png"}
            left = [d.finding for d in examine(target, PARAMETERS, thorough=True) if d.finding.check != "index.behind"]
            assert left == []
    finally:
        stop.set()
        writer.join()
    assert failures == []


def test_a_restored_copy_goes_on(library: Library, target: Path, tmp_path: Path) -> None:
    back_up(library.root, target, PARAMETERS)
    ids = {path: image_id for image_id, path, _ in hits(library.root)}
    shutil.rmtree(library.root)
    shutil.copytree(target, tmp_path / "restored")
    restored = open_library(tmp_path / "restored")
    add_photo(restored, "new.png", b"1")
    ingest(restored)
    after = {path: image_id for image_id, path, _ in hits(restored.root)}
    assert after.items() > ids.items()
    assert after["new.png"] > max(ids.values())


def test_a_file_that_rotted_in_the_copy_is_copied_again(library: Library, target: Path) -> None:
    back_up(library.root, target, PARAMETERS)
    flip(shard_of(open_library(target)))
    flip(segment_of(open_library(target)) / "rows.faiss")
    again = back_up(library.root, target, PARAMETERS)
    assert {shard_of(library).name, "rows.faiss"} < names(again)
    assert examine(target, PARAMETERS, thorough=True) == []


def test_a_damaged_library_is_told_not_copied_silently(library: Library, target: Path) -> None:
    flip(shard_of(library))
    with pytest.raises(BackupError, match="imgrec doctor --fix"):
        back_up(library.root, target, PARAMETERS)
    shard_of(library).unlink()
    with pytest.raises(BackupError, match="is gone: run `imgrec doctor --fix`"):
        back_up(library.root, target, PARAMETERS)
    examine(library.root, PARAMETERS, fix=True)
    back_up(library.root, target, PARAMETERS)
    assert hits(target) == hits(library.root)


def test_a_backup_that_ends_half_way_leaves_the_one_before(library: Library, target: Path) -> None:
    back_up(library.root, target, PARAMETERS)
    before = hits(target)
    library = library.with_vector_settings({**library.vector_settings, "bins": [4, 4, 4]})
    ingest(library)
    (new,) = (
        path.parent
        for path in list_shards(library.shards_dir)
        if path.parent.name != shard_of(open_library(target)).parent.name
    )
    obstacle = target / "shards" / "color" / new.name
    obstacle.touch()
    with pytest.raises(FileExistsError):
        back_up(library.root, target, PARAMETERS)
    assert hits(target) == before
    assert [d for d in examine(target, PARAMETERS) if d.finding.check != "leftovers"] == []
    obstacle.unlink()
    back_up(library.root, target, PARAMETERS)
    assert hits(target) == hits(library.root)
    assert examine(target, PARAMETERS) == []


def test_half_a_first_backup_is_no_library(library: Library, target: Path) -> None:
    (target / "shards").parent.mkdir(parents=True)
    (target / "backup.json").write_text(json.dumps({"library_uuid": library.uuid}))
    (target / "shards").touch()
    with pytest.raises(NotADirectoryError):
        back_up(library.root, target, PARAMETERS)
    assert not is_library(target)


def test_nothing_else_is_overwritten(library: Library, target: Path, tmp_path: Path) -> None:
    def refused(folder: Path) -> str:
        with pytest.raises(BackupError) as caught:
            back_up(library.root, folder, PARAMETERS)
        return str(caught.value)

    assert "inside of the library" in refused(library.root / "backup")
    assert "inside of the library" in refused(library.root)
    assert "holds other things" in refused(tmp_path / "photos")
    other = make_library(tmp_path / "other")
    assert "holds other things" in refused(other.root)
    back_up(other.root, target, PARAMETERS)
    assert "backup of another library" in refused(target)

    mine = tmp_path / "mine"
    back_up(library.root, mine, PARAMETERS)
    hits(mine)  # only read: still a backup
    back_up(library.root, mine, PARAMETERS)
    add_photo(library, "new.png", b"1")
    ingest(open_library(mine))
    assert "was used as a library" in refused(mine)
