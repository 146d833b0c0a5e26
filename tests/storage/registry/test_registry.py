"""The registry as a file: its schema, its damage, its journal."""

import errno
import os
import resource
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest

from imgrec.storage.errors import ImgrecError, LibraryFormatError, LibraryNotFoundError
from imgrec.storage.library import FORMAT_VERSION, create_library, is_library, open_library
from imgrec.storage.machine import filesystems
from imgrec.storage.machine.filesystems import allows_wal, filesystem_type
from imgrec.storage.machine.os_errors import errno_of
from imgrec.storage.registry import database, migrations
from imgrec.storage.registry.migrations import MIGRATIONS, schema_version
from imgrec.storage.registry.registry import Registry
from tests.storage.rows import add_image

NORMAL, FULL = 1, 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


def tables(path: Path) -> set[str]:
    connection = sqlite3.connect(path)
    try:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()


# Schema


@pytest.mark.parametrize("there", [False, True])
def test_an_empty_file_becomes_a_registry(path: Path, there: bool) -> None:
    if there:
        path.touch()
    with Registry.open_for_writing(path) as registry:
        assert schema_version(registry.connection) == len(MIGRATIONS)
    assert {"images", "probes", "fingerprints", "shards", "vector_failures", "index_rows"} <= tables(path)


def test_opening_again_changes_nothing(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        add_image(registry, 1)
        before = list(registry.connection.iterdump())
    with Registry.open_for_writing(path) as registry:
        assert list(registry.connection.iterdump()) == before


def test_each_step_and_its_record_are_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def add_table(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE extra (x)")

    def fail_half_way(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE half (x)")
        raise KeyboardInterrupt

    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, add_table, fail_half_way))
    with pytest.raises(KeyboardInterrupt), Registry.open_for_writing(path):
        raise AssertionError("it opened")
    assert "extra" in tables(path)
    assert "half" not in tables(path)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, add_table))
    with Registry.open_for_writing(path) as registry:
        assert schema_version(registry.connection) == len(MIGRATIONS) + 1


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        registry.connection.execute("PRAGMA user_version = 99")
    for opened in (Registry.open_for_writing(path), Registry.open_for_reading(path)):
        with pytest.raises(LibraryFormatError, match=r"registry\.sqlite has schema 99, .* upgrade"), opened:
            raise AssertionError("it opened")


def test_an_ingest_that_died_before_its_first_table_is_told(path: Path) -> None:
    path.touch()
    with pytest.raises(ImgrecError, match=r"registry\.sqlite"), Registry.open_for_reading(path) as registry:
        registry.count_images()


# Damage


def test_a_registry_that_is_none_is_named(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)
    for opened in (Registry.open_for_writing(path), Registry.open_for_reading(path)):
        with pytest.raises(LibraryFormatError, match=r"registry\.sqlite is damaged .*: restore"), opened:
            raise AssertionError("it opened")


def test_damage_that_shows_later_is_named_too(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        for number in range(500):
            add_image(registry, number)
    data = bytearray(path.read_bytes())
    data[4_096:] = b"\xff" * len(data[4_096:])
    path.write_bytes(data)
    damaged = pytest.raises(LibraryFormatError, match=r"registry\.sqlite is damaged")
    with damaged, Registry.open_for_reading(path) as registry:
        registry.count_images()


def test_a_registry_that_is_not_there_is_not_made_by_reading(path: Path) -> None:
    with pytest.raises(LibraryNotFoundError, match="imgrec ingest"), Registry.open_for_reading(path):
        raise AssertionError("it opened")
    assert not path.exists()


# Reading and writing


def test_a_reader_cannot_write(path: Path) -> None:
    with Registry.open_for_writing(path):
        pass
    with Registry.open_for_reading(path) as registry, pytest.raises(sqlite3.OperationalError, match="readonly"):
        add_image(registry, 1)


def test_a_reader_sees_what_was_committed_while_a_writer_is_busy(path: Path) -> None:
    with Registry.open_for_writing(path) as writer:
        if not allows_wal(path.parent):
            pytest.skip("no WAL on this file system")
        add_image(writer, 1)
        with writer.transaction():
            add_image(writer, 2)
            with Registry.open_for_reading(path) as reader:
                assert reader.count_images()["ok"] == 1


def test_a_transaction_is_all_or_nothing(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        with pytest.raises(KeyboardInterrupt), registry.transaction():
            add_image(registry, 1)
            raise KeyboardInterrupt
        assert registry.count_images()["ok"] == 0


def test_a_vector_needs_its_image(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        registry.register_fingerprint("f" * 16, "color", 1, {})
        with pytest.raises(sqlite3.IntegrityError):
            registry.connection.execute("INSERT INTO color_vectors VALUES (7, ?, x'00000000')", ("f" * 16,))


def test_many_ids_are_read_at_once(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        ids = [add_image(registry, number) for number in range(1_203)]
        assert list(registry.images([*ids, 5_000])) == ids


@pytest.mark.parametrize(
    "name", ["with space", "hash#tag", "per%20cent", "what?", "it's", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_a_library_may_lie_in_any_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    path = tmp_path / name / "registry.sqlite"
    with Registry.open_for_writing(path) as registry:
        add_image(registry, 1)
    with Registry.open_for_reading(path) as registry:
        assert registry.count_images()["ok"] == 1


# Journal


def test_a_local_disk_has_a_write_ahead_log(path: Path) -> None:
    with Registry.open_for_writing(path) as registry:
        mode = registry.connection.execute("PRAGMA journal_mode").fetchone()[0]
    assert mode == ("wal" if allows_wal(path.parent) else "delete")


def test_elsewhere_there_is_a_rollback_journal_also_after_a_move(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry.open_for_writing(path) as registry:
        add_image(registry, 1)
    monkeypatch.setattr(database, "allows_wal", lambda folder: False)
    with Registry.open_for_writing(path) as registry:
        assert registry.connection.execute("PRAGMA journal_mode").fetchone()[0] == "delete"
        assert registry.count_images()["ok"] == 1


@pytest.mark.parametrize(("log", "level"), [(True, NORMAL), (False, FULL)])
def test_a_rollback_journal_is_flushed_at_every_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch, log: bool, level: int
) -> None:
    """SQLite may lose the file itself where that is left out, and nothing but the last transactions with a log."""
    monkeypatch.setattr(database, "allows_wal", lambda folder: log)
    with Registry.open_for_writing(path) as registry:

        def synchronous() -> int:
            return int(registry.connection.execute("PRAGMA synchronous").fetchone()[0])

        assert synchronous() == level
        with registry.transaction(durable=True):
            assert synchronous() == FULL
            add_image(registry, 1)
        assert synchronous() == level


def test_the_kernel_says_what_file_system_a_path_is_on(tmp_path: Path) -> None:
    if not Path("/proc/mounts").exists():
        pytest.skip("no /proc here")
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert not allows_wal(Path("/proc"))
    assert filesystem_type(tmp_path) not in ("unknown", "proc")


def test_the_innermost_mount_counts_whatever_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = (
        "/dev/sda / ext4 rw 0 0\n"
        "server:/x /mnt nfs4 rw 0 0\n"
        "/dev/sdb /mnt/my\\040disk ext4 rw 0 0\n"
        "server:/y /mnt/caf\N{LATIN SMALL LETTER E WITH ACUTE} cifs rw 0 0\n"
        "server:/z /mnt/\N{CAMERA} fuse.sshfs rw 0 0\n"
        "/dev/sdc /over xfs rw 0 0\n"
        "server:/o /over nfs rw 0 0\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda *args: mounts)
    kinds = {
        "/home": "ext4",
        "/mnt/x": "nfs4",
        "/mnt/my disk/x": "ext4",
        "/mnt/caf\N{LATIN SMALL LETTER E WITH ACUTE}": "cifs",
        "/mnt/\N{CAMERA}/x": "fuse.sshfs",
        "/mntx": "ext4",
        "/over/x": "nfs",
    }
    assert {path: filesystems.filesystem_type(Path(path)) for path in kinds} == kinds


# library.json


def test_a_library_comes_back_as_it_was_made(tmp_path: Path) -> None:
    made = create_library(tmp_path / "lib", tmp_path, ("color", "sift"), {"bins": [8, 8, 8], "decode_min_side": 448})
    assert open_library(tmp_path / "lib") == made
    assert made.format_version == 1  # so that earlier versions open it
    moved = made.with_images_root(tmp_path / "caf\udce9").with_modalities(("sift",)).with_vector_settings({"bins": 1})
    assert open_library(tmp_path / "lib") == moved
    assert moved.uuid == made.uuid
    assert moved.images_root == str(tmp_path / "caf\udce9")


def test_there_is_no_library_before_there_is_one(tmp_path: Path) -> None:
    assert not is_library(tmp_path)
    with pytest.raises(LibraryNotFoundError, match="make one with `imgrec ingest"):
        open_library(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"format_version": "1"}', b"null"])
def test_a_damaged_library_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library.json").write_bytes(content)
    with pytest.raises(LibraryFormatError, match=r"library\.json is .*restore it from a backup"):
        open_library(tmp_path)


@pytest.mark.parametrize("content", [b'{"format_version": 1}', b'{"format_version": 1, "modalities": 5}'])
def test_a_library_json_that_lacks_something_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "library.json").write_bytes(content)
    with pytest.raises(LibraryFormatError, match=r"library\.json is .*restore it from a backup"):
        open_library(tmp_path)


def test_a_library_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "library.json").write_text(f'{{"format_version": {FORMAT_VERSION + 1}, "whatever": 1}}')
    with pytest.raises(LibraryFormatError, match=f"format 3, this imgrec knows up to {FORMAT_VERSION}: upgrade"):
        open_library(tmp_path)


def test_it_is_told_when_no_more_files_can_be_opened(tmp_path: Path) -> None:
    """At whichever of its files SQLite fails, which is no longer seen when it has closed the others."""
    path = tmp_path / "registry.sqlite"
    with Registry.open_for_writing(path):
        pass
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    refused: list[int | None] = []
    taken = [os.open(os.devnull, os.O_RDONLY)]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 20, hard))
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(8):
            try:
                with Registry.open_for_writing(path):
                    break
            except (OSError, sqlite3.Error) as error:
                refused.append(errno_of(error))
            os.close(taken.pop())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert 1 <= len(refused) < 8
    assert set(refused) == {errno.EMFILE}
