"""Work on a chunk that ends at any moment: the next start goes on behind the last part that was kept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imgrec.embedders.work import keeping
from imgrec.embedders.work.chunk import read_chunk
from imgrec.embedders.work.keeping import Keeper, parts_folder, salvage
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk, is_embedded
from imgrec.storage.shards import list_shards, read_shard
from imgrec.storage.thumbnails.store import ThumbnailStore
from tests.embedders.work.test_worker import write_chunk, write_photos
from tests.storage.pictures import InProcess

IMAGES = 4 * IMAGES_PER_PART


class EndedError(Exception):
    """Stands for whatever ends a worker."""


def ending_after(images: int) -> Callable[[int], None]:
    seen = 0

    def hear(count: int) -> None:
        nonlocal seen
        seen += count
        if seen >= images:
            raise EndedError

    return hear


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "IMAGES_KEPT_AT_ONCE", IMAGES_PER_PART)
    monkeypatch.setattr(keeping, "KEEP_AT_MOST_EVERY_S", 0)


@pytest.fixture
def chunk(tmp_path: Path) -> Path:
    return write_chunk(tmp_path, write_photos(tmp_path / "photos", IMAGES))


def end_in_the_middle(chunk: Path) -> None:
    with pytest.raises(EndedError):
        embed_chunk(chunk, InProcess(), 1, on_images=ending_after(3 * IMAGES_PER_PART))


@pytest.mark.usefixtures("often")
def test_a_second_start_goes_on_behind_the_last_part(tmp_path: Path, chunk: Path) -> None:
    end_in_the_middle(chunk)
    assert list(list_shards(tmp_path / "shards")) == []
    heard: list[int] = []
    again = InProcess()
    outcome = embed_chunk(chunk, again, 1, on_images=heard.append)
    assert heard == [2 * IMAGES_PER_PART, IMAGES_PER_PART, IMAGES_PER_PART]
    assert again.calls == 2
    assert (outcome.embedded, outcome.failed) == (IMAGES, 0)
    assert is_embedded(chunk)
    assert not parts_folder(chunk).exists()


def test_who_is_asked_to_end_keeps_what_is_done(chunk: Path) -> None:
    def ask(count: int) -> None:
        if next(seen) == 2:
            raise SystemExit(143)

    seen = iter(range(4))
    with pytest.raises(SystemExit):
        embed_chunk(chunk, InProcess(), 1, on_images=ask)
    assert Keeper(chunk).done == {entry.content_hash for entry in read_chunk(chunk).pending[: 2 * IMAGES_PER_PART]}


@pytest.mark.usefixtures("often")
def test_both_halves_have_the_vectors_of_one_piece(tmp_path: Path, chunk: Path) -> None:
    whole = read_shard(embed_chunk(chunk, InProcess(), 1).shards[0])
    (tmp_path / "shards").rename(tmp_path / "before")
    end_in_the_middle(chunk)
    joined = read_shard(embed_chunk(chunk, InProcess(), 1).shards[0])
    assert joined.content_hashes == whole.content_hashes
    assert joined.vectors.tobytes() == whole.vectors.tobytes()


@pytest.mark.usefixtures("often")
def test_a_part_that_does_not_verify_is_computed_again(chunk: Path) -> None:
    end_in_the_middle(chunk)
    first, second = sorted(parts_folder(chunk).iterdir())
    second.write_bytes(second.read_bytes()[:-20])
    assert first.exists()
    again = InProcess()
    assert embed_chunk(chunk, again, 1).embedded == IMAGES
    assert again.calls == 3


@pytest.mark.usefixtures("often")
def test_what_is_kept_of_a_chunk_that_nobody_works_on_comes_into_the_library(tmp_path: Path, chunk: Path) -> None:
    end_in_the_middle(chunk)
    assert salvage([chunk]) == 2 * IMAGES_PER_PART
    (path,) = list_shards(tmp_path / "shards")
    asked_for = [entry.content_hash for entry in read_chunk(chunk).pending]
    assert list(read_shard(path).content_hashes) == asked_for[: 2 * IMAGES_PER_PART]
    assert not parts_folder(chunk).exists()


@pytest.mark.usefixtures("often")
def test_what_is_kept_has_its_thumbnails(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", IMAGES)
    chunk = write_chunk(tmp_path, photos, thumbnails_dir=str(tmp_path / "thumbnails"))
    store = ThumbnailStore(tmp_path / "thumbnails")
    asked_for = [entry.content_hash for entry in read_chunk(chunk).pending]
    end_in_the_middle(chunk)
    assert store.lacking(asked_for) == asked_for[2 * IMAGES_PER_PART :]
    embed_chunk(chunk, InProcess(), 1)
    assert store.lacking(asked_for) == []


def test_a_part_is_kept_every_so_often(chunk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("imgrec.embedders.work.keeping.time.monotonic", lambda: now)
    keeper = keeping.Keeper(chunk)
    now += 0.5
    assert not keeper.is_due(1_000)  # a fast machine does not flush files all the time
    now += 0.6
    assert keeper.is_due(256)
    assert not keeper.is_due(255)
    now += 30
    assert keeper.is_due(1)
    assert not keeper.is_due(0)
