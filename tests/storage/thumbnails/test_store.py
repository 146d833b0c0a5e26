"""Thumbnails in packs: what was kept is found, whatever is killed, merged or damaged meanwhile."""

import hashlib
import io
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.storage.errors import ThumbnailsDamagedError
from imgrec.storage.thumbnails import packs as packs_module
from imgrec.storage.thumbnails import store as store_module
from imgrec.storage.thumbnails.cache import ThumbnailCache, allowed_side
from imgrec.storage.thumbnails.packs import Pack, write_pack
from imgrec.storage.thumbnails.store import ThumbnailStore, pack_paths
from imgrec.storage.thumbnails.webp import thumbnail_of


def content(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def some(*numbers: int) -> dict[bytes, bytes]:
    return {content(number): f"picture {number}".encode() * (1 + number % 7) for number in numbers}


def test_a_thumbnail_keeps_shape_and_colours() -> None:
    pixels = np.zeros((600, 1200, 3), np.uint8)
    pixels[:, 600:] = (250, 10, 10)
    with Image.open(io.BytesIO(thumbnail_of(pixels))) as small:
        assert (small.format, small.size) == ("WEBP", (64, 32))
        colours = np.asarray(small.convert("RGB"))
    assert colours[16, 8].max() < 20
    assert colours[16, 56, 0] > 220
    assert colours[16, 56, 1:].max() < 40
    with Image.open(io.BytesIO(thumbnail_of(pixels[:20, :30]))) as tiny:  # never enlarged
        assert tiny.size == (30, 20)


def test_what_was_added_is_found_and_nothing_else(tmp_path: Path) -> None:
    store = ThumbnailStore(tmp_path)
    assert store.get_many([content(1)]) == {}
    store.add(some(*range(300)))
    store.add(some(*range(300, 310), 5))
    asked = [content(number) for number in (5, 299, 309, 400, 5)]
    assert store.get_many(asked) == some(5, 299, 309)
    assert store.lacking(asked) == [content(400)]
    assert store.get_many([]) == {}


def test_contents_whose_first_bytes_are_the_same_are_told_apart(tmp_path: Path) -> None:
    twins = [b"12345678" + bytes([last]) * 24 for last in (1, 2, 3)]
    write_pack(tmp_path, {twins[0]: b"first", twins[2]: b"third"})
    assert ThumbnailStore(tmp_path).get_many(twins) == {twins[0]: b"first", twins[2]: b"third"}


def test_small_packs_are_merged_and_open_readers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SPARE_PACKS", 3)
    reader, writer = ThumbnailStore(tmp_path), ThumbnailStore(tmp_path)
    for start in range(0, 80, 8):
        writer.add(some(*range(start, start + 8)))
    everything, all_contents = some(*range(80)), [content(number) for number in range(80)]
    assert reader.get_many(all_contents) == everything
    opened = reader.packs()
    assert writer.wants_merge
    writer.merge()
    assert len(pack_paths(tmp_path)) <= 3
    assert not writer.wants_merge
    assert {key: small for pack in opened for key, small in pack.read_all()} == everything  # from files that are gone
    assert reader.get_many(all_contents) == writer.get_many(all_contents) == everything


def test_a_killed_merge_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SPARE_PACKS", 1)
    store = ThumbnailStore(tmp_path)
    for number in range(6):
        store.add(some(number))

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.merge()
    again = ThumbnailStore(tmp_path)
    assert again.get_many([content(number) for number in range(6)]) == some(*range(6))
    again.merge()
    assert again.get_many([content(number) for number in range(6)]) == some(*range(6))


def test_forgotten_contents_are_gone_from_their_packs(tmp_path: Path) -> None:
    store = ThumbnailStore(tmp_path)
    store.add(some(1, 2, 3))
    store.add(some(4))
    paths = {pack.count: pack.path for pack in store.packs()}
    store.forget({paths[3]: {content(2)}, paths[1]: {content(4)}})
    assert store.get_many([content(number) for number in range(6)]) == some(1, 3)
    assert len(pack_paths(tmp_path)) == 1


@pytest.mark.parametrize("cut", ["short", "empty", "foreign", "flipped"])
def test_a_damaged_pack_is_found_and_costs_no_other(tmp_path: Path, cut: str, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = write_pack(tmp_path, some(1, 2)), write_pack(tmp_path, some(*range(10, 90)))
    data = bad.read_bytes()
    flipped = bytearray(data)
    flipped[-3] ^= 1
    bad.write_bytes({"short": data[:-5], "empty": b"", "foreign": b"x" * 500, "flipped": bytes(flipped)}[cut])
    with pytest.raises(ThumbnailsDamagedError, match="is damaged"):
        Pack(bad).verify()
    Pack(good).verify()
    store = ThumbnailStore(tmp_path)
    assert store.get_many([content(1), content(2)]) == some(1, 2)
    store.add(some(3))
    assert store.get_many([content(3)]) == some(3)
    assert len([record for record in caplog.records if str(bad) in record.message]) == (cut != "flipped")


def test_hashes_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs_module, "_READ_BYTES", 100)  # three hashes a time
    pack = Pack(write_pack(tmp_path, some(*range(20))))
    assert dict(pack.read_all()) == some(*range(20))
    assert [content for part in pack.hashes() for content in part] == sorted(some(*range(20)))
    pack.verify()


def test_threads_read_while_packs_come(tmp_path: Path) -> None:
    store, wrong = ThumbnailStore(tmp_path), []

    def read() -> None:
        for number in range(200):
            found = store.get_many([content(number % 50)])
            if found not in ({}, some(number % 50)):
                wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(50):
        ThumbnailStore(tmp_path).add(some(number))
    for thread in threads:
        thread.join()
    assert wrong == []


def test_sizes_are_few() -> None:
    assert [allowed_side(side) for side in (1, 64, 65, 200, 1024, 9999)] == [64, 64, 128, 256, 1024, 1024]


def test_a_cache_keeps_what_was_asked_for_up_to_its_size(tmp_path: Path) -> None:
    cache = ThumbnailCache(tmp_path, max_bytes=200_000)
    made = []

    def make(number: int) -> bytes:
        made.append(number)
        return bytes([number]) * 10_000

    for number in (1, 1, 2):
        assert cache.get_or_make(content(number), 256, partial(make, number)) == bytes([number]) * 10_000
    assert made == [1, 2]
    for number in range(3, 60):
        cache.get_or_make(content(number), 256, partial(make, number))
    assert len(cache.contents()) < 25
    assert content(59) in cache.contents()
    assert content(1) not in cache.contents()
    assert (tmp_path / "cache.sqlite").stat().st_size < 300_000
    cache.forget([content(59)])
    assert cache.size_of([content(59)]) == 0


def test_a_cache_that_is_damaged_or_not_wanted_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"not a database, and long enough to be read as one" * 100)
    cache = ThumbnailCache(tmp_path, 1e6)
    assert cache.get_or_make(content(1), 128, lambda: b"made") == b"made"
    assert cache.get_or_make(content(1), 128, lambda: b"made") == b"made"
    assert cache.get_or_make(content(1), 128, lambda: b"other") == b"made"
    assert ThumbnailCache(tmp_path / "nowhere", 0).get_or_make(content(1), 128, lambda: b"made") == b"made"
    assert not (tmp_path / "nowhere").exists()
