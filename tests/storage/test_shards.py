"""Shards say themselves what they hold, or that they are damaged."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from imgrec.storage.errors import ShardError
from imgrec.storage.machine.atomic import TEMPORARY_PREFIX, atomic_path, remove_stale_temporaries, write_atomic
from imgrec.storage.shards import FORMAT, Failure, Shard, digest_of, list_shards, read_shard, write_shard
from tests.storage.rows import COLOR, SIFT, hash_of, make_shard, write

FAILURES = (Failure(hash_of(100), "corrupt", "truncated: \N{SNOWMAN}"), Failure(hash_of(101), "empty", ""))

FACTS = {"format": FORMAT, "modality": "color", "fingerprint": COLOR, "checksum": "0" * 64, "failures": []}
VECTOR = pa.array([[1.0]], pa.list_(pa.float32(), 1))
NO_VECTOR = pa.array([None], pa.list_(pa.float32(), 1))


def assert_equal(left: Shard, right: Shard) -> None:
    assert (left.modality, left.fingerprint) == (right.modality, right.fingerprint)
    assert left.content_hashes == right.content_hashes
    assert left.vectors.dtype == np.float32
    assert left.vectors.shape == right.vectors.shape
    assert left.vectors.tobytes() == right.vectors.tobytes()
    assert left.failures == right.failures


@st.composite
def shards(draw: st.DrawFn) -> Shard:
    rows, dim = draw(st.integers(0, 5)), draw(st.integers(1, 6))
    # Any 32 bits are a float32: NaNs with payloads, infinities, denormals, both zeros.
    bits = draw(npst.arrays(np.uint32, (rows, dim), elements=st.integers(0, 2**32 - 1)))
    failures = st.builds(
        Failure,
        st.binary(min_size=32, max_size=32),
        st.text(max_size=8),
        st.text(st.characters(codec="utf-8"), max_size=20),
    )
    return Shard(
        modality=draw(st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True)),
        fingerprint=draw(st.from_regex(r"[0-9a-f]{16}", fullmatch=True)),
        content_hashes=tuple(draw(st.lists(st.binary(min_size=32, max_size=32), min_size=rows, max_size=rows))),
        vectors=bits.view(np.float32),
        failures=tuple(draw(st.lists(failures, max_size=3))),
    )


@given(shard=shards())
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shard_comes_back_bit_by_bit(tmp_path: Path, shard: Shard) -> None:
    path = tmp_path / "one.parquet"
    checksum = write_shard(path, shard)
    assert_equal(read_shard(path), shard)
    assert read_shard(path).checksum == checksum


def test_a_shard_is_plain_parquet_for_others(tmp_path: Path) -> None:
    shard = make_shard(1, 2)
    table = pq.read_table(write(tmp_path, shard))
    assert table.column_names == ["content_hash", "vector"]
    assert table["vector"].to_pylist() == shard.vectors.tolist()


def test_vectors_in_another_memory_order_are_the_same_shard(tmp_path: Path) -> None:
    shard = make_shard(1, 2, 3)
    transposed = Shard(shard.modality, shard.fingerprint, shard.content_hashes, np.asfortranarray(shard.vectors))
    assert transposed.checksum == shard.checksum
    path = tmp_path / "one.parquet"
    write_shard(path, transposed)
    assert_equal(read_shard(path), shard)


def test_the_same_shard_is_the_same_file(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.parquet", make_shard(1, 2, failures=FAILURES))
    write_shard(tmp_path / "b.parquet", make_shard(1, 2, failures=FAILURES))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        make_shard(1, 3),
        make_shard(2, 1),
        make_shard(1, 2, fingerprint=SIFT),
        make_shard(1, 2, modality="sift"),
        make_shard(1, 2, failures=FAILURES),
        Shard("color", COLOR, make_shard(1, 2).content_hashes, -make_shard(1, 2).vectors),
    ],
)
def test_the_checksum_is_over_everything(other: Shard) -> None:
    assert other.checksum != make_shard(1, 2).checksum


# Damage


def test_every_flipped_byte_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    shard = make_shard(1, 2, failures=FAILURES[:1])
    path = write(tmp_path, shard)
    data = path.read_bytes()
    noticed = 0
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF if place % 3 else 1 << place % 8
        path.write_bytes(damaged)
        try:
            read = read_shard(path)
        except ShardError as error:
            assert str(path) in str(error)
            noticed += 1
        else:
            assert_equal(read, shard)
    assert noticed > len(data) / 2


def test_a_shard_that_was_cut_off_is_damaged(tmp_path: Path) -> None:
    path = write(tmp_path, make_shard(1, 2))
    data = path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(ShardError, match="is damaged"):
            read_shard(path)


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_shard(path, make_shard(1))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            read_shard(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(read_shard(path).vectors) == 1


def test_a_shard_that_is_not_there_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"nowhere\.parquet"):
        read_shard(tmp_path / "nowhere.parquet")


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"x": [1, 2]}),
        pa.table({"content_hash": [b"x"], "vector": [[1.0]]}),
        pa.table({"content_hash": [b"x"], "vector": [[1.0]]}).replace_schema_metadata({b"imgrec": b"[]"}),
        pa.table({"content_hash": [b"x"], "vector": [[1.0]]}).replace_schema_metadata({b"imgrec": b"{"}),
        pa.table({"x": [1]}).replace_schema_metadata({b"imgrec": b'{"format": "imgrec-shard-1"}'}),
        pa.table({"x": [1]}).replace_schema_metadata({b"imgrec": b'{"format": "imgrec-shard-2"}'}),
        pa.table({"content_hash": [None], "vector": VECTOR}).replace_schema_metadata({b"imgrec": json.dumps(FACTS)}),
        pa.table({"content_hash": [b"x"], "vector": NO_VECTOR}).replace_schema_metadata({b"imgrec": json.dumps(FACTS)}),
    ],
)
def test_foreign_parquet_is_no_shard(tmp_path: Path, table: pa.Table) -> None:
    pq.write_table(table, tmp_path / "foreign.parquet")
    with pytest.raises(ShardError, match=r"foreign\.parquet"):
        read_shard(tmp_path / "foreign.parquet")


# Names


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=8), st.randoms())
def test_the_name_does_not_depend_on_the_order(hashes: list[bytes], random: object) -> None:
    shuffled = list(hashes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert digest_of(COLOR, shuffled) == digest_of(COLOR, hashes)


def test_other_contents_and_other_fingerprints_have_other_names() -> None:
    names = {digest_of(f, h) for f in (COLOR, SIFT) for h in ([], [hash_of(1)], [hash_of(2)], [hash_of(1), hash_of(2)])}
    assert len(names) == 8
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


def test_shards_are_listed_in_order_by_fingerprint_and_without_temporaries(tmp_path: Path) -> None:
    paths = sorted([write(tmp_path, make_shard(n)) for n in range(4)])
    other = write(tmp_path, make_shard(1, modality="sift", fingerprint=SIFT))
    (paths[0].parent / f"{TEMPORARY_PREFIX}x.parquet").touch()
    paths[0].with_suffix(".damaged").touch()
    assert list(list_shards(tmp_path, COLOR)) == paths
    assert list(list_shards(tmp_path)) == sorted([*paths, other])
    assert list(list_shards(tmp_path / "nowhere")) == []


# Whole or not at all


def test_a_writer_that_dies_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "one.parquet"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_bytes(b"half of the ne")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]
    assert target.read_bytes() == b"old"


def test_a_write_replaces_the_old_file_and_makes_its_folders(tmp_path: Path) -> None:
    for data in (b"old", b"new"):
        write_atomic(tmp_path / "a" / "b" / "file", data)
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"new"
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1


def test_others_may_read_what_was_written_as_far_as_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    path = write(tmp_path, make_shard(1))
    (path.parent / f"{TEMPORARY_PREFIX}abc.parquet").write_bytes(b"half")
    assert remove_stale_temporaries(tmp_path) == 1
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
