"""Shards → registry."""

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imgrec.storage import mirror
from imgrec.storage.mirror import adopt_shards, are_settled, merge_small_shards, mirror_shards, wants_merge
from imgrec.storage.names import ModalityNameError
from imgrec.storage.registry.pending import list_pending, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_bytes, shard_files, shard_sizes
from imgrec.storage.shards import NO_FEATURES, Failure, list_shards, read_shard
from tests.storage.pictures import wait_for_another_ctime
from tests.storage.rows import COLOR, SIFT, add_image, hash_of, make_shard, register, vector_of, write


@pytest.fixture(autouse=True)
def known_embedders(registry: Registry) -> None:
    register(registry)


def blobs(registry: Registry, modality: str = "color") -> dict[int, bytes]:
    return dict(registry.connection.execute(f"SELECT image_id, vector FROM {modality}_vectors ORDER BY 1").fetchall())


def pending_hashes(registry: Registry, fingerprints: dict[str, str]) -> dict[tuple[str, ...], list[bytes]]:
    groups = list_pending(registry, fingerprints)
    return {g.modalities: [p.content_hash for p in read_pending(registry, g.start, g.images)] for g in groups}


# Mirroring


def test_a_blob_has_the_bytes_of_its_shard(registry: Registry, tmp_path: Path) -> None:
    ids = [add_image(registry, number) for number in (1, 2, 3)]
    path = write(tmp_path, make_shard(3, 1, 2))
    assert mirror_shards(registry, tmp_path, [path]) == 3
    vectors = dict(zip(read_shard(path).content_hashes, read_shard(path).vectors, strict=True))
    assert blobs(registry) == {i: vectors[hash_of(n)].tobytes() for i, n in zip(ids, (1, 2, 3), strict=True)}
    found = registry.vectors("color", COLOR, ids)
    assert all(np.array_equal(found[i], vector_of(n)) for i, n in zip(ids, (1, 2, 3), strict=True))
    assert registry.count_vectors("color", COLOR) == 3


def test_all_copies_of_a_content_get_its_vector(registry: Registry, tmp_path: Path) -> None:
    ids = [add_image(registry, 1, name) for name in ("a.png", "b.png")]
    registry.connection.execute("UPDATE images SET missing_since = 'now' WHERE path = 'b.png'")
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(1))])
    assert blobs(registry) == dict.fromkeys(ids, vector_of(1).tobytes())


def test_mirroring_twice_changes_nothing(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    path = write(tmp_path, make_shard(1))
    mirror_shards(registry, tmp_path, [path])
    before = list(registry.connection.iterdump())
    mirror_shards(registry, tmp_path, [path])
    assert list(registry.connection.iterdump()) == before


def test_a_failure_is_told_with_its_image_and_is_not_tried_again(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    failed = add_image(registry, 2)
    shard = make_shard(1, failures=(Failure(hash_of(2), "corrupt", "truncated"),))
    mirror_shards(registry, tmp_path, [write(tmp_path, shard)])
    assert [(row.id, row.status, row.reason) for row in registry.failures()] == [(failed, "corrupt", "truncated")]
    assert list_pending(registry, {"color": COLOR}) == []


def test_a_shard_without_any_vector_is_mirrored(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 2)
    path = write(tmp_path, make_shard(failures=(Failure(hash_of(2), "corrupt", "truncated"),)))
    assert mirror_shards(registry, tmp_path, [path]) == 0
    assert registry.count_failures() == {"corrupt": 1}
    assert list(shard_files(registry)) == [str(path.relative_to(tmp_path))]


# Adopting


def test_unknown_shards_are_adopted_once(registry: Registry, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        add_image(registry, number)
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(1))])
    write(tmp_path, make_shard(2, 3))
    assert adopt_shards(registry, tmp_path) == 2
    assert adopt_shards(registry, tmp_path) == 0
    assert list_pending(registry, {"color": COLOR}) == []
    assert sorted(shard_sizes(registry, COLOR), key=lambda shard: shard[1])[1][1] == 2
    assert shard_bytes(registry) == sum(path.stat().st_size for path in list_shards(tmp_path))


@pytest.mark.parametrize("damage", [b"", b"PAR1garbagePAR1"])
def test_a_damaged_shard_is_moved_aside_and_its_contents_are_pending(
    registry: Registry, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (1, 2):
        add_image(registry, number)
    write(tmp_path, make_shard(1))
    damaged = write(tmp_path, make_shard(2))
    damaged.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        assert adopt_shards(registry, tmp_path) == 1
    assert damaged.name in caplog.text
    assert not damaged.exists()
    assert damaged.with_suffix(".damaged").read_bytes() == damage
    assert pending_hashes(registry, {"color": COLOR}) == {("color",): [hash_of(2)]}
    assert adopt_shards(registry, tmp_path) == 0


def test_a_shard_of_an_unknown_embedder_is_left_alone(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    path = write(tmp_path, make_shard(1, fingerprint="0" * 16))
    assert adopt_shards(registry, tmp_path) == 0
    assert path.exists()
    assert list(shard_files(registry)) == []


def test_vectors_of_contents_that_nobody_has_cost_nothing(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    write(tmp_path, make_shard(1, 99))
    adopt_shards(registry, tmp_path)
    assert len(blobs(registry)) == 1


# Merging


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "VECTORS_PER_SHARD", 10)
    monkeypatch.setattr(mirror, "SPARE_SHARDS", 3)
    monkeypatch.setattr(mirror, "MERGED_VECTORS", 20)


def write_many(registry: Registry, shards_dir: Path, count: int) -> None:
    """Mirror `count` shards: one vector each, every tenth also a failure, and one shard of only a failure."""
    for number in range(count):
        add_image(registry, number)
        add_image(registry, 1_000 + number)
        failures = (Failure(hash_of(1_000 + number), "corrupt", "why"),) if number % 10 == 0 else ()
        write(shards_dir, make_shard(number, failures=failures))
    write(shards_dir, make_shard(failures=(Failure(hash_of(1_001), "empty", ""),)))
    adopt_shards(registry, shards_dir)


def everything(shards_dir: Path) -> tuple[dict[bytes, bytes], set[Failure]]:
    shards = [read_shard(path) for path in list_shards(shards_dir)]
    rows = [(h, v.tobytes()) for s in shards for h, v in zip(s.content_hashes, s.vectors, strict=True)]
    assert len(dict(rows)) == len(rows)
    return dict(rows), {failure for shard in shards for failure in shard.failures}


@pytest.mark.usefixtures("small_limits")
def test_merging_keeps_every_vector_and_every_failure_in_few_files(registry: Registry, tmp_path: Path) -> None:
    write_many(registry, tmp_path, 45)
    before, blobs_before = everything(tmp_path), blobs(registry)
    assert wants_merge(registry, COLOR)
    removed = merge_small_shards(registry, tmp_path, "color", COLOR)
    files = list(list_shards(tmp_path))
    assert len(files) <= 45 // 10 + 3
    assert len(files) >= 46 - removed
    assert everything(tmp_path) == before
    assert blobs(registry) == blobs_before
    assert not wants_merge(registry, COLOR)
    assert sorted(shard_files(registry)) == [str(path.relative_to(tmp_path)) for path in files]
    assert adopt_shards(registry, tmp_path) == 0


@pytest.mark.usefixtures("small_limits")
def test_few_shards_are_not_merged(registry: Registry, tmp_path: Path) -> None:
    write_many(registry, tmp_path, 2)
    before = list(list_shards(tmp_path))
    assert not wants_merge(registry, COLOR)
    assert merge_small_shards(registry, tmp_path, "color", COLOR) == 0
    assert list(list_shards(tmp_path)) == before


def test_a_thousand_vectors_a_file_and_fifty_more_are_allowed(registry: Registry, tmp_path: Path) -> None:
    write_many(registry, tmp_path, 51)
    merge_small_shards(registry, tmp_path, "color", COLOR)
    assert len(list(list_shards(tmp_path))) <= 50
    assert registry.count_vectors("color", COLOR) == 51


@pytest.mark.usefixtures("small_limits")
def test_a_merge_that_is_killed_loses_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_many(registry, tmp_path, 45)
    before, _ = everything(tmp_path)

    def die(path: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "unlink", die)
        merge_small_shards(registry, tmp_path, "color", COLOR)
    adopt_shards(registry, tmp_path)
    merge_small_shards(registry, tmp_path, "color", COLOR)
    kept = {h: v.tobytes() for p in list_shards(tmp_path) for h, v in zip(
        read_shard(p).content_hashes, read_shard(p).vectors, strict=True)}  # fmt: skip
    assert kept == before
    assert not wants_merge(registry, COLOR)


@pytest.mark.usefixtures("small_limits")
def test_a_damaged_shard_does_not_stop_a_merge(registry: Registry, tmp_path: Path) -> None:
    write_many(registry, tmp_path, 45)
    path = next(iter(list_shards(tmp_path)))
    path.write_bytes(b"PAR1 no more PAR1")
    merge_small_shards(registry, tmp_path, "color", COLOR)
    assert not wants_merge(registry, COLOR)
    assert len(blobs(registry)) == 45


# Copies


def test_a_copy_gets_the_vector_of_its_content(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1, "a.png")
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(1))])
    copies = [add_image(registry, 1, name) for name in ("b.png", "c.png")]
    add_image(registry, 2, "other.png")
    assert registry.copy_vectors("color", COLOR) == 2
    assert blobs(registry) == dict.fromkeys([1, *copies], vector_of(1).tobytes())
    assert registry.copy_vectors("color", COLOR) == 0
    assert registry.copy_vectors("sift", SIFT) == 0


def test_a_copy_of_a_missing_image_gets_its_vector_too(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1, "a.png")
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(1))])
    registry.connection.execute("UPDATE images SET missing_since = 'now'")
    copy = add_image(registry, 1, "b.png")
    assert registry.copy_vectors("color", COLOR) == 1
    assert copy in blobs(registry)


# What is pending


def test_contents_are_grouped_by_what_they_wait_for(registry: Registry, tmp_path: Path) -> None:
    for number in range(7):
        add_image(registry, number)
    mirror_shards(registry, tmp_path, [
        write(tmp_path, make_shard(0, 1, 4)),
        write(tmp_path, make_shard(0, 2, 5, modality="sift", fingerprint=SIFT)),
    ])  # fmt: skip
    assert pending_hashes(registry, {"color": COLOR, "sift": SIFT}) == {
        ("color",): [hash_of(2), hash_of(5)],
        ("sift",): [hash_of(1), hash_of(4)],
        ("color", "sift"): [hash_of(3), hash_of(6)],
    }
    assert pending_hashes(registry, {"sift": SIFT}) == {("sift",): [hash_of(n) for n in (1, 3, 4, 6)]}
    assert list_pending(registry, {}) == []


def test_a_content_is_pending_once_however_many_copies_it_has(registry: Registry) -> None:
    for name in ("a.png", "b.png", "c.png"):
        add_image(registry, 1, name)
    (group,) = list_pending(registry, {"color": COLOR})
    (pending,) = read_pending(registry, group.start, group.images)
    assert (pending.path, pending.size, pending.mtime_ns) == ("a.png", 1, 2)


def test_missing_and_failed_images_are_not_pending(registry: Registry) -> None:
    add_image(registry, 1, status="corrupt")
    add_image(registry, 2)
    registry.connection.execute("UPDATE images SET missing_since = 'now' WHERE path = '2.png'")
    assert list_pending(registry, {"color": COLOR}) == []


def test_the_list_stays_while_vectors_come_in(registry: Registry, tmp_path: Path) -> None:
    for number in range(4):
        add_image(registry, number)
    (group,) = list_pending(registry, {"color": COLOR})
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(0, 1))])
    assert [p.content_hash for p in read_pending(registry, group.start + 2, 2)] == [hash_of(2), hash_of(3)]


def test_a_new_fingerprint_makes_everything_pending_and_keeps_the_old_vectors(
    registry: Registry, tmp_path: Path
) -> None:
    add_image(registry, 1)
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(1))])
    registry.register_fingerprint("d" * 16, "color", 4, {})
    assert pending_hashes(registry, {"color": "d" * 16}) == {("color",): [hash_of(1)]}
    assert registry.count_vectors("color", COLOR) == 1


@pytest.mark.parametrize("name", ["", "Color", "1st", "a-b", "a_b", "x; DROP TABLE images", "ä", "a\n"])
def test_only_plain_names_become_tables(registry: Registry, name: str) -> None:
    with pytest.raises(ModalityNameError, match="is no name of a modality"):
        registry.register_fingerprint("0" * 16, name, 4, {})


# Shards that are lost


def flip_a_bit(path: Path) -> None:
    """Damage a file as a disk does: the same size, and whoever looks at its times sees nothing."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


LOSSES: dict[str, Callable[[Path], None]] = {"gone": Path.unlink, "flipped": flip_a_bit}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES.keys())
def test_a_lost_shard_is_written_anew_from_the_registry(
    registry: Registry, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    for number in range(5):
        add_image(registry, number)
    failures = (Failure(hash_of(7), "corrupt", "why"), Failure(hash_of(8), NO_FEATURES, "nothing"))
    paths = [write(tmp_path, make_shard(0, 1)), write(tmp_path, make_shard(2, 3, failures=failures))]
    paths.append(write(tmp_path, make_shard(4, modality="sift", fingerprint=SIFT)))
    mirror_shards(registry, tmp_path, paths)
    registry.connection.execute("UPDATE images SET missing_since = 'now' WHERE path = '2.png'")
    before, blobs_before = everything(tmp_path), blobs(registry)
    wait_for_another_ctime(tmp_path)
    lose(paths[1])
    assert not are_settled(registry, tmp_path)
    assert adopt_shards(registry, tmp_path) == 0  # nothing that was not known
    assert everything(tmp_path) == before
    assert blobs(registry) == blobs_before
    assert are_settled(registry, tmp_path)
    assert pending_hashes(registry, {"color": COLOR}) == {("color",): [hash_of(4)]}


def test_a_lost_shard_of_nothing_but_failures_is_written_anew(registry: Registry, tmp_path: Path) -> None:
    path = write(tmp_path, make_shard(failures=(Failure(hash_of(1), "corrupt", "why"),)))
    mirror_shards(registry, tmp_path, [path])
    path.unlink()
    adopt_shards(registry, tmp_path)
    assert everything(tmp_path) == ({}, {Failure(hash_of(1), "corrupt", "why")})
    assert are_settled(registry, tmp_path)


@pytest.mark.usefixtures("small_limits")
def test_many_lost_shards_come_back_in_few(registry: Registry, tmp_path: Path) -> None:
    write_many(registry, tmp_path, 45)
    before = everything(tmp_path)
    for path in list_shards(tmp_path):
        path.unlink()
    adopt_shards(registry, tmp_path)
    assert everything(tmp_path) == before
    assert len(list(list_shards(tmp_path))) <= 45 // mirror.MERGED_VECTORS + 1
    assert are_settled(registry, tmp_path)


def test_a_shard_that_was_only_touched_is_verified_once_and_stays(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    path = write(tmp_path, make_shard(1))
    mirror_shards(registry, tmp_path, [path])
    wait_for_another_ctime(tmp_path)
    path.touch()
    assert not are_settled(registry, tmp_path)
    adopt_shards(registry, tmp_path)
    assert are_settled(registry, tmp_path)
    assert list(list_shards(tmp_path)) == [path]


def test_a_registry_of_yesterday_is_brought_up_to_date(registry: Registry, tmp_path: Path) -> None:
    for number in range(3):
        add_image(registry, number)
    mirror_shards(registry, tmp_path, [write(tmp_path, make_shard(0)), write(tmp_path, make_shard(1))])
    yesterday = sqlite3.connect(tmp_path / "yesterday.sqlite")
    registry.connection.backup(yesterday)
    yesterday.close()
    # Today another one comes in, and all are merged.
    merged = write(tmp_path, make_shard(0, 1, 2))
    for path in list_shards(tmp_path):
        if path != merged:
            path.unlink()
    mirror_shards(registry, tmp_path, [merged])
    with Registry.open_for_writing(tmp_path / "yesterday.sqlite") as restored:
        assert adopt_shards(restored, tmp_path) == 3
        assert blobs(restored) == blobs(registry)
        assert are_settled(restored, tmp_path)
        assert list(list_shards(tmp_path)) == [merged]
