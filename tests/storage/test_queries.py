"""SQL for users, read-only and offline."""

from pathlib import Path

import numpy as np
import pytest

from imgrec.storage.library import Library, create_library
from imgrec.storage.mirror import adopt_shards
from imgrec.storage.queries import SqlError, run_sql
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Failure
from tests.storage.rows import COLOR, SIFT, add_image, hash_of, make_shard, register, vector_of, write

FINGERPRINTS = {"color": COLOR, "sift": SIFT}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """Six images: 1 and 2 with vectors, a copy of 1, a corrupt one, a missing one, and one that waits for vectors."""
    library = create_library(tmp_path / "library", tmp_path, ("color",), {})
    with Registry.open_for_writing(library.registry_path) as registry:
        register(registry)
        for number, name in (
            (1, "a.png"),
            (2, "b.png"),
            (1, "copy.png"),
            (3, "bad.png"),
            (4, "gone.png"),
            (5, "c.png"),
        ):
            add_image(registry, number, name)
        registry.connection.execute("UPDATE images SET missing_since = 'now' WHERE path = 'gone.png'")
        write(library.shards_dir, make_shard(1, 4, failures=(Failure(hash_of(3), "corrupt", "truncated"),)))
        write(library.shards_dir, make_shard(2))
        write(library.shards_dir, make_shard(2, modality="sift", fingerprint=SIFT))
        adopt_shards(registry, library.shards_dir)
    return library


def files_below(folder: Path) -> dict[Path, bytes]:
    """All files and what they hold, but for those that every reader of a database with a log makes."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".sqlite-shm", ".sqlite-wal")]
    return {path: path.read_bytes() for path in paths}


def rows(library: Library, statement: str) -> list[tuple[object, ...]]:
    return [tuple(row) for row in run_sql(library, statement, FINGERPRINTS)[1]]


def test_images_are_a_view(library: Library) -> None:
    names, found = run_sql(library, "SELECT * FROM images ORDER BY id", FINGERPRINTS)
    assert names == [
        "id", "path", "size", "modified", "width", "height", "format", "status", "reason", "content_hash",
        "taken", "taken_offset", "camera",
    ]  # fmt: skip
    assert [(row[1], row[7]) for row in found] == [
        ("a.png", "ok"), ("b.png", "ok"), ("copy.png", "ok"), ("bad.png", "corrupt"), ("gone.png", "missing"),
        ("c.png", "ok"),
    ]  # fmt: skip
    assert found[0][9] == hash_of(1).hex()


def test_each_modality_is_a_view(library: Library) -> None:
    found = rows(library, "SELECT image_id, path, vector FROM color ORDER BY image_id")
    assert [row[:2] for row in found] == [(1, "a.png"), (2, "b.png"), (3, "copy.png"), (5, "gone.png")]
    for (_, _, vector), number in zip(found, (1, 2, 1, 4), strict=True):
        assert np.array_equal(np.array(vector, np.float32), vector_of(number))


def test_views_join(library: Library) -> None:
    statement = """SELECT i.path, list_dot_product(c.vector, s.vector)
                   FROM images i JOIN color c ON c.image_id = i.id JOIN sift s ON s.image_id = i.id"""
    assert rows(library, statement) == [("b.png", pytest.approx(1))]


def test_a_vector_in_two_shards_is_one_row(library: Library) -> None:
    write(library.shards_dir, make_shard(1, 2))
    assert rows(library, "SELECT count(*) FROM color") == [(4,)]


def test_a_modality_without_vectors_is_an_empty_view(library: Library) -> None:
    assert run_sql(library, "SELECT * FROM sift", {"sift": "0" * 16}) == (["image_id", "path", "vector"], [])


def test_an_empty_library_has_its_views(tmp_path: Path) -> None:
    library = create_library(tmp_path, tmp_path, ("color",), {})
    with Registry.open_for_writing(library.registry_path):
        pass
    assert run_sql(library, "SELECT count(*) FROM images, color", {"color": COLOR}) == (["count_star()"], [(0,)])


def test_modification_times_are_instants(library: Library) -> None:
    assert rows(library, "SELECT epoch_ns(modified) FROM images WHERE id = 1") == [(2,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELEC 1",
        "SELECT * FROM nothing",
        "SELECT nothing FROM images",
        "SELECT * FROM images WHERE id = ?",
        "SELECT error('two\nlines')",
        "SELECT 'x'::INTEGER",
    ],
)
def test_wrong_sql_is_one_line(library: Library, statement: str) -> None:
    with pytest.raises(SqlError, match=r"^SQL: .") as caught:
        rows(library, statement)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("statement", ["", " ", "-- nothing", ";"])
def test_no_statement_at_all_is_wrong_sql(library: Library, statement: str) -> None:
    with pytest.raises(SqlError):
        rows(library, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('{outside}')",
        "SELECT * FROM '{outside}'",
        "COPY (SELECT 1) TO '{folder}/new.csv'",
        "COPY (SELECT 1) TO '{folder}/library/shards/new.parquet'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/library/shards/new.parquet'",
        "ATTACH '{folder}/new.db'",
        "SET enable_external_access = true",
        "INSTALL httpfs",
        "SELECT * FROM 'https://localhost:9/x.parquet'",
        "ATTACH '{folder}/library/registry.sqlite' (TYPE sqlite)",
    ],
)
def test_nothing_outside_of_the_library_is_read_or_written(library: Library, tmp_path: Path, statement: str) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("secret\n1\n")
    before = files_below(tmp_path)
    with pytest.raises(SqlError) as caught:
        rows(library, statement.format(outside=outside, folder=tmp_path))
    assert "download" not in str(caught.value)
    assert files_below(tmp_path) == before


def test_no_statement_changes_the_library(library: Library) -> None:
    before = files_below(library.root)
    for statement in ("CREATE TABLE x AS SELECT 1", "DROP VIEW images", "UPDATE images SET path = 'x'"):
        try:
            rows(library, statement)
        except SqlError:
            continue
    assert files_below(library.root) == before


def test_a_damaged_shard_is_named(library: Library) -> None:
    path = write(library.shards_dir, make_shard(7))
    path.write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(SqlError, match=path.name):
        rows(library, "SELECT count(*) FROM color")


@pytest.mark.parametrize("folder", ["li[b]rary", "a*b", "it's", "what?"])
def test_a_library_in_an_oddly_named_folder_is_asked_like_any_other(tmp_path: Path, folder: str) -> None:
    library = create_library(tmp_path / folder, tmp_path, ("color",), {})
    with Registry.open_for_writing(library.registry_path) as registry:
        register(registry)
        add_image(registry, 1)
        write(library.shards_dir, make_shard(1))
    assert rows(library, "SELECT image_id FROM color") == [(1,)]
