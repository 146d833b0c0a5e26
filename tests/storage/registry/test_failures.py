"""Failed contents: which are tried again, and what that leaves behind."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgrec.storage.mirror import adopt_shards, are_settled, merge_small_shards, mirror_shards
from imgrec.storage.registry.failures import MEMORY_RETRIES, forget_failures, list_failed, list_retryable, remedy_for
from imgrec.storage.registry.pending import list_pending, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import NO_FEATURES, Failure, list_shards, read_contents, read_shard
from tests.storage.pictures import Photos, picture
from tests.storage.rows import COLOR, SIFT, add_image, hash_of, make_shard, register, write

LIMITS = {"max_megapixels": 256.0, "decode_timeout_s": 60.0}


@pytest.fixture(autouse=True)
def known_embedders(registry: Registry) -> None:
    register(registry)


def failed(number: int, status: str = "corrupt", reason: str = "why") -> Failure:
    return Failure(hash_of(number), status, reason)


def pending(registry: Registry) -> set[bytes]:
    groups = list_pending(registry, {"color": COLOR, "sift": SIFT})
    return {entry.content_hash for group in groups for entry in read_pending(registry, group.start, group.images)}


def statuses(registry: Registry) -> dict[str, str]:
    return dict(registry.connection.execute("SELECT path, status FROM images").fetchall())


@pytest.mark.parametrize(
    ("status", "reason", "again"),
    [
        ("too_large", "9×9 pixels are more than max_megapixels = 255.5", True),
        ("too_large", "9×9 pixels are more than max_megapixels = 256", False),
        ("too_large", "2.2 GB are more than a picture has that can be decoded", False),
        ("decoder_hangs", "decoding takes longer than decode_timeout_s = 59", True),
        ("decoder_hangs", "decoding takes longer than decode_timeout_s = 60", False),
        ("out_of_memory", "there is not enough memory to decode it", True),
        ("corrupt", "it says max_megapixels = 1", False),
        ("crashed_decoder", "decoding it fails each time: a worker process ended with SIGSEGV", False),
        ("unreadable", "cannot be read: Permission denied", False),
        ("ok", None, False),
    ],
)
def test_what_may_be_over_is_tried_again(registry: Registry, status: str, reason: str | None, again: bool) -> None:
    add_image(registry, 1, status=status)
    registry.connection.execute("UPDATE images SET reason = ?", (reason,))
    assert list_retryable(registry, LIMITS) == ({hash_of(1)} if again else set())
    assert list_failed(registry) == (set() if status in ("ok", "unreadable") else {hash_of(1)})
    remedy = "" if status == "ok" else remedy_for(status, reason)
    assert status == "ok" or len(remedy) > 10
    assert ("max-megapixels" in remedy) == ("are more than max_megapixels" in (reason or ""))


def test_want_of_memory_is_tried_again_three_times_by_itself_and_whenever_asked_for(
    registry: Registry, tmp_path: Path
) -> None:
    add_image(registry, 1)
    add_image(registry, 2)
    without_memory = make_shard(2, failures=(failed(1, "out_of_memory"),))
    for _ in range(2):
        for _ in range(MEMORY_RETRIES):
            mirror_shards(registry, tmp_path, [write(tmp_path, without_memory)])
            assert list_retryable(registry, LIMITS) == {hash_of(1)}
            forget_failures(registry, tmp_path, {hash_of(1)}, by_itself=True)
            assert pending(registry) >= {hash_of(1)}
        mirror_shards(registry, tmp_path, [write(tmp_path, without_memory)])
        assert list_retryable(registry, LIMITS) == set()
        forget_failures(registry, tmp_path, list_failed(registry))  # asked for


def test_neither_registry_nor_shards_know_of_the_failure_any_more(registry: Registry, tmp_path: Path) -> None:
    for number in (1, 2, 3, 4):
        add_image(registry, number)
    shards = [
        make_shard(1, failures=(failed(3), failed(4), failed(2, NO_FEATURES))),
        make_shard(1, 2, modality="sift", fingerprint=SIFT, failures=(failed(3), failed(4))),
        make_shard(failures=(failed(3),), fingerprint=SIFT, modality="sift"),
    ]
    mirror_shards(registry, tmp_path, [write(tmp_path, shard) for shard in shards])
    assert pending(registry) == set()

    forget_failures(registry, tmp_path, {hash_of(3)})

    assert pending(registry) == {hash_of(3)}
    assert statuses(registry) == {"1.png": "ok", "2.png": "ok", "3.png": "ok", "4.png": "corrupt"}
    assert are_settled(registry, tmp_path)
    held = [read_shard(path) for path in list_shards(tmp_path)]
    assert len(held) == 2  # one had nothing else
    assert {shard.modality: shard.content_hashes for shard in held} == {
        "color": (hash_of(1),),
        "sift": (hash_of(1), hash_of(2)),
    }
    assert {failure for shard in held for failure in shard.failures} == {failed(4), failed(2, NO_FEATURES)}
    # Nor does a registry that is made anew from the shards.
    with Registry.open_for_writing(tmp_path / "new.sqlite") as new:
        register(new)
        for number in (1, 2, 3, 4):
            add_image(new, number)
        adopt_shards(new, tmp_path)
        assert pending(new) == {hash_of(3)}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_killed_half_way_the_same_call_goes_on(
    registry: Registry, tmp_path: Path, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        add_image(registry, number)
    shards = [
        make_shard(1, failures=(failed(2),)),
        make_shard(1, modality="sift", fingerprint=SIFT, failures=(failed(2),)),
    ]
    mirror_shards(registry, tmp_path, [write(tmp_path, shard) for shard in shards])
    transaction, begun = registry.transaction, 0

    @contextmanager
    def ending() -> Iterator[None]:
        nonlocal begun
        begun += 1
        if begun > survived:
            raise Killed
        with transaction():
            yield

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(registry, "transaction", ending)
        forget_failures(registry, tmp_path, list_failed(registry))
    adopt_shards(registry, tmp_path)  # as any ingest does
    assert list_failed(registry) == {hash_of(2)}
    forget_failures(registry, tmp_path, list_failed(registry))
    adopt_shards(registry, tmp_path)
    assert pending(registry) == {hash_of(2)}
    assert [read_contents(path).failed for path in list_shards(tmp_path)] == [[], []]


@pytest.mark.parametrize("vector_first", [True, False])
def test_a_vector_outweighs_a_failure_whichever_comes_first(
    registry: Registry, tmp_path: Path, vector_first: bool
) -> None:
    """As of shards of both, which a registry restored from a backup adopts in any order."""
    add_image(registry, 1)
    paths = [write(tmp_path, make_shard(1)), write(tmp_path, make_shard(2, failures=(failed(1, "out_of_memory"),)))]
    mirror_shards(registry, tmp_path, paths if vector_first else paths[::-1])
    assert statuses(registry) == {"1.png": "ok"}
    assert list_failed(registry) == set()
    assert list_pending(registry, {"color": COLOR}) == []


def test_a_vector_does_not_outweigh_the_failure_of_another_modality(registry: Registry, tmp_path: Path) -> None:
    add_image(registry, 1)
    other = make_shard(2, modality="sift", fingerprint=SIFT, failures=(failed(1, "out_of_memory"),))
    mirror_shards(registry, tmp_path, [write(tmp_path, other), write(tmp_path, make_shard(1))])
    assert statuses(registry) == {"1.png": "out_of_memory"}


def test_merged_shards_have_one_outcome_of_a_content(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgrec.storage.mirror.SPARE_SHARDS", 0)
    add_image(registry, 1)
    shards = [make_shard(1), make_shard(2, failures=(failed(1),))]
    mirror_shards(registry, tmp_path, [write(tmp_path, shard) for shard in shards])
    merge_small_shards(registry, tmp_path, "color", COLOR)
    (merged,) = list_shards(tmp_path)
    assert sorted(read_contents(merged).embedded) == sorted([hash_of(1), hash_of(2)])
    assert read_contents(merged).failed == []


def test_a_header_that_failed_is_read_again(photos: Photos) -> None:
    photos.write("a.png", content=1)
    photos.write("b.png", content=picture(2)[:20])
    photos.scan()
    run = photos.registry.connection.execute
    run("UPDATE images SET status = 'crashed_decoder', reason = 'why', width = NULL WHERE path = 'a.png'")
    photos.scan()
    assert photos.read == []
    forget_failures(photos.registry, photos.root.parent / "shards", list_failed(photos.registry))
    photos.scan()
    assert sorted(photos.read) == ["a.png", "b.png"]
    assert (photos.status("a.png"), photos.status("b.png")) == ("ok", "corrupt")
    assert run("SELECT width, retries FROM images WHERE path = 'a.png'").fetchone() == (3, 0)
    photos.scan()
    assert photos.read == []


def test_a_read_header_does_not_hide_what_the_next_try_found(photos: Photos, tmp_path: Path) -> None:
    """`imgrec embed --retry-failed` tries again without a scan, and the scan that comes after reads the file."""
    photos.write("a.png", content=1)
    photos.scan()
    (content,) = photos.registry.content_hashes([1]).values()
    shard = make_shard(failures=(Failure(content, "corrupt", "why"),))
    mirror_shards(photos.registry, tmp_path / "shards", [write(tmp_path / "shards", shard)])
    forget_failures(photos.registry, tmp_path / "shards", {content})
    mirror_shards(photos.registry, tmp_path / "shards", [write(tmp_path / "shards", shard)])
    photos.scan()
    assert photos.read == ["a.png"]
    assert photos.status("a.png") == "corrupt"
