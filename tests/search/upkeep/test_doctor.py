"""Every check: one thing is broken, the check finds that and nothing else, mends it, and the library is well again."""

import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from imgrec.search import Searcher
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.updating import update_index
from imgrec.search.upkeep.doctor import Diagnosis, examine
from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.library import Library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, list_shards, read_shard, write_shard
from tests.search.conftest import make_library
from tests.search.libraries import PARAMETERS, ingest


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Library:
    library = make_library(tmp_path_factory.mktemp("pristine"))
    library = library.with_modalities(("color", "sift"))
    ingest(library)
    return library


@pytest.fixture
def library(pristine: Library, tmp_path: Path) -> Library:
    shutil.copytree(pristine.root, tmp_path / "library")
    return Library(**{**vars(pristine), "root": tmp_path / "library"})


@contextmanager
def rows(library: Library) -> Iterator[sqlite3.Connection]:
    """The registry as any SQLite client changes it: nothing is enforced."""
    connection = sqlite3.connect(library.registry_path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


def flip(path: Path, where: float = 0.6) -> None:
    """Flip a bit, in a new file: one that is mapped into memory must not change."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * where)] ^= 4
    path.unlink()
    path.write_bytes(data)


def shard_of(library: Library, modality: str = "color") -> Path:
    return next(path for path in list_shards(library.shards_dir) if path.parent.parent.name == modality)


def segment_of(library: Library, index: str = "color") -> Path:
    folder = IndexFolder(library.indexes_dir, index)
    return folder.segment_dir(folder.read_manifest().segments[0].name)


def found(diagnoses: list[Diagnosis]) -> list[str]:
    return [diagnosis.finding.check for diagnosis in diagnoses]


def vectors(library: Library) -> list[tuple[int, bytes]]:
    with rows(library) as connection:
        return connection.execute("SELECT image_id, vector FROM color_vectors ORDER BY image_id").fetchall()


def hits(library: Library) -> list[list[tuple[int, float]]]:
    found = []
    for index in ("color", "sift", "combo_color_sift"):
        with Searcher(library.root, index) as searcher:
            found.append([(hit.id, hit.score) for hit in searcher.search(["id:1"])[0].hits])
    return found


def test_a_healthy_library_has_nothing(library: Library) -> None:
    assert examine(library.root, PARAMETERS) == examine(library.root, PARAMETERS, thorough=True) == []
    assert examine(library.root, PARAMETERS, fix=True) == []


# What a program can mend


def lose_index_of_images(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        root = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'images_content_hash'").fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        connection.execute("PRAGMA journal_mode = DELETE")
    data = bytearray(library.registry_path.read_bytes())
    page = slice((root - 1) * size, root * size)
    data[page] = b"\x0a" + bytes(4) + size.to_bytes(2, "big") + bytes(size - 7)  # an index of nothing
    library.registry_path.write_bytes(data)


def lose_table(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DROP TABLE color_vectors")


def lose_an_image(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DELETE FROM images WHERE path = 'chelsea.png'")


def change_a_vector(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("UPDATE color_vectors SET vector = zeroblob(2048) WHERE image_id = 3")


def lose_a_vector(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DELETE FROM color_vectors WHERE image_id = 3")
    ingest_nothing(library)


def ingest_nothing(library: Library) -> None:
    """Let the indexes follow what the registry says now."""
    for name in ("color", "combo_color_sift"):
        folder = IndexFolder(library.indexes_dir, name)
        manifest = folder.read_manifest()
        with Registry.open_for_writing(library.registry_path) as registry:
            update_index(
                registry, library.shards_dir, folder, manifest.members, manifest.vector_settings, PARAMETERS, True
            )


def lose_rows(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DELETE FROM index_rows WHERE index_name = 'sift' AND \"offset\" = 4")


def restore_older_rows(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DELETE FROM index_rows WHERE index_name = 'sift'")


def rows_of_a_stranger(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("INSERT INTO index_rows VALUES ('old', 'x', 0, 1)")


def replace_shard(library: Library) -> None:
    path = shard_of(library)
    shard = read_shard(path)
    write_shard(path, Shard(shard.modality, shard.fingerprint, shard.content_hashes, np.roll(shard.vectors, 1, axis=1)))


def forget_shard(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DELETE FROM shards WHERE modality = 'color'")


def other_vectors_in_the_index(library: Library) -> None:
    """A segment of before there were checksums, with a bit flipped."""
    (segment_of(library) / "checksums.json").unlink()
    data = bytearray((segment_of(library) / "rows.faiss").read_bytes())
    data[-1] ^= 0x80  # the last number of the last row
    (segment_of(library) / "rows.faiss").unlink()
    (segment_of(library) / "rows.faiss").write_bytes(data)


def fall_behind(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("UPDATE images SET missing_since = '2026' WHERE path = 'chelsea.png'")


def leave_things(library: Library) -> None:
    shard_of(library).with_name(".tmp-x.parquet").write_bytes(b"half")


def die_holding_the_lock(library: Library) -> None:
    (library.root / "lock.json").write_text(f'{{"host": "{socket.gethostname()}", "pid": 99999999, "since": "x"}}')


@dataclass(frozen=True)
class Break:
    break_it: Callable[[Library], object]
    finds: tuple[str, ...]
    loses_a_photo: bool = False
    changes_vectors: bool = False


BREAKS = {
    "an index of SQLite": Break(lose_index_of_images, ("registry.integrity",)),
    "a table of vectors": Break(lose_table, ("registry.tables",)),
    "an image": Break(lose_an_image, ("registry.references",), loses_a_photo=True, changes_vectors=True),
    "a shard": Break(lambda library: shard_of(library).unlink(), ("shards.missing", "vectors.unsharded")),
    "a bit of a shard": Break(lambda library: flip(shard_of(library)), ("shards.damaged", "vectors.unsharded")),
    "another shard": Break(replace_shard, ("shards.replaced", "index.vectors"), changes_vectors=True),
    "an unknown shard": Break(forget_shard, ("shards.unknown",)),
    "a changed vector": Break(change_a_vector, ("vectors.differ",)),
    "a lost vector": Break(lose_a_vector, ("vectors.differ",)),
    "an index file": Break(lambda library: (segment_of(library) / "ids.npy").unlink(), ("index.damaged",)),
    "a bit of a graph": Break(lambda library: flip(segment_of(library) / "graph.faiss"), ("index.damaged",)),
    "checksums": Break(lambda library: flip(segment_of(library) / "checksums.json", 0.1), ("index.damaged",)),
    "a bit of an old graph": Break(other_vectors_in_the_index, ("index.vectors",)),
    "a manifest": Break(
        lambda library: (IndexFolder(library.indexes_dir, "combo_color_sift")).pointer.write_text("nothing"),
        ("index.damaged",),
    ),
    "a pointer": Break(lambda library: IndexFolder(library.indexes_dir, "color").pointer.unlink(), ("index.pointer",)),
    "an index left behind": Break(fall_behind, ("index.behind",), loses_a_photo=True),
    "an index of another registry": Break(restore_older_rows, ("index.newer",)),
    "rows of an index": Break(lose_rows, ("index.rows",)),
    "rows of no index": Break(rows_of_a_stranger, ("index.rows",)),
    "a temporary file": Break(leave_things, ("leftovers",)),
    "a dead holder": Break(die_holding_the_lock, ("lock",)),
}


@pytest.mark.parametrize("broken", BREAKS.values(), ids=BREAKS.keys())
def test_it_is_found_mended_and_well_again(library: Library, pristine: Library, broken: Break) -> None:
    broken.break_it(library)

    first = examine(library.root, PARAMETERS)
    assert broken.finds[0] in found(first)
    assert not any(diagnosis.fixed for diagnosis in first)
    assert found(examine(library.root, PARAMETERS)) == found(first)  # looking changes nothing
    mended = examine(library.root, PARAMETERS, fix=True)
    assert set(broken.finds) <= set(found(mended))
    assert all(diagnosis.fixed for diagnosis in mended), mended

    assert examine(library.root, PARAMETERS, thorough=True) == []
    assert [len(some) for some in hits(library)] == ([8] * 3 if broken.loses_a_photo else [9] * 3)
    assert (vectors(library) == vectors(pristine)) is not broken.changes_vectors


# What it cannot


def no_registry(library: Library) -> None:
    for path in library.root.glob("registry.sqlite*"):
        path.unlink()


def no_images_table(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("DROP TABLE images")


def lost_model(library: Library) -> None:
    library.with_vector_settings({**library.vector_settings, "sift_codebook": "0123456789abcdef"})


def bytes_in_registry(library: Library) -> None:
    with rows(library) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    data = library.registry_path.read_bytes()
    library.registry_path.write_bytes(data[:8192] + bytes(4096) + data[12288:])


@pytest.mark.parametrize(
    ("break_it", "finds", "remedy"),
    [
        (lambda library: (library.root / "library.json").write_text("{"), "library", "backup"),
        (no_registry, "registry", "`imgrec ingest` then makes a new one"),
        (lambda library: library.registry_path.write_bytes(b"no database" * 1000), "registry", "backup"),
        (bytes_in_registry, "registry", "backup"),
        (no_images_table, "registry.tables", "backup"),
        (lost_model, "models", "imgrec reembed --sift-codebook default"),
    ],
)
def test_what_cannot_be_mended_says_what_to_do(
    library: Library, break_it: Callable[[Library], None], finds: str, remedy: str
) -> None:
    break_it(library)
    before = {path.name for path in library.root.rglob("*")}
    for fix in (False, True):
        (diagnosis,) = examine(library.root, PARAMETERS, fix=fix)
        assert (diagnosis.finding.check, diagnosis.fixed) == (finds, False)
        assert remedy in diagnosis.finding.remedy
    assert {path.name for path in library.root.rglob("*")} - before <= {
        "registry.sqlite-shm",
        "registry.sqlite-wal",
        ".lock",
    }


def test_shards_of_photos_that_no_scan_has_seen_wait_for_the_ingest(library: Library) -> None:
    """A registry of yesterday: adopted before the scan, its newer shards would be adopted for nothing."""
    with rows(library) as connection:
        connection.execute("DELETE FROM shards")
        for table in ("color_vectors", "sift_vectors", "index_rows"):
            connection.execute(f"DELETE FROM {table}")
        connection.execute("DELETE FROM images WHERE path = 'chelsea.png'")
    left = [d.finding for d in examine(library.root, PARAMETERS, fix=True) if not d.fixed]
    assert [finding.check for finding in left] == ["shards.unknown"]
    assert "imgrec ingest" in left[0].remedy
    ingest(library)


def test_a_vector_of_wrong_length_and_no_shard_is_computed_again(library: Library) -> None:
    shard_of(library).unlink()
    change_a_vector(library)
    left = [d.finding.check for d in examine(library.root, PARAMETERS, fix=True) if not d.fixed]
    assert left == []
    with rows(library) as connection:
        assert connection.execute("SELECT count(*) FROM color_vectors WHERE image_id = 3").fetchone() == (0,)
    ingest(library)
    assert [len(some) for some in hits(library)] == [9] * 3
    assert examine(library.root, PARAMETERS) == []


def test_shards_that_say_nonsense_are_set_aside(library: Library) -> None:
    path = shard_of(library)
    shard = read_shard(path)
    nonsense = Shard(shard.modality, shard.fingerprint, shard.content_hashes, shard.vectors * np.float32(np.nan))
    checksum = write_shard(path, nonsense)
    with rows(library) as connection:
        connection.execute("UPDATE shards SET checksum = ? WHERE modality = 'color'", (checksum,))
    assert "shards.invalid" in found(examine(library.root, PARAMETERS))
    assert all(diagnosis.fixed for diagnosis in examine(library.root, PARAMETERS, fix=True))
    ingest(library)
    assert [len(some) for some in hits(library)] == [9] * 3


def test_a_library_that_is_written_is_not_judged(library: Library) -> None:
    with writer_lock(library.root), pytest.raises(LibraryLockedError):
        examine(library.root, PARAMETERS)
    die_holding_the_lock(library)
    holder = library.root / "lock.json"
    holder.write_text(holder.read_text().replace(socket.gethostname(), "another-host"))
    with pytest.raises(LibraryLockedError, match="another-host"):
        examine(library.root, PARAMETERS, fix=True)
    os.utime(holder, (time.time() - 600, time.time() - 600))
    assert found(examine(library.root, PARAMETERS, fix=True)) == ["lock"]
    assert not holder.exists()


def test_without_fix_nothing_is_written(library: Library) -> None:
    def stamps() -> dict[Path, tuple[int, int]]:
        own = (".lock", "-wal", "-shm")  # those of whoever has it open
        paths = [path for path in library.root.rglob("*") if path.is_file() and not path.name.endswith(own)]
        return {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths}

    before = stamps()
    assert examine(library.root, PARAMETERS, thorough=True) == []
    assert stamps() == before
