"""Many queries at once: the answers of one at a time, in their order, whatever is wrong with some."""

import os
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.search import Answer, Searcher, many_pictures
from imgrec.search.errors import QueryError
from imgrec.search.pictures import Picture
from imgrec.storage.library import Library, create_library
from tests.search.conftest import SETTINGS
from tests.search.libraries import ingest


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, pictures: Library) -> Library:
    """Colours and a model, which is computed in batches beside the workers."""
    home = tmp_path_factory.mktemp("many")
    settings = {**SETTINGS, "sift_codebook": "default", "precision": "float32", "cpu_runtime": "onnxruntime"}
    modalities = ("color", "sift", "efficientnet")
    library = create_library(home / "library", Path(pictures.images_root), modalities, settings)
    ingest(library)
    return library


@pytest.fixture(scope="module")
def searcher(library: Library) -> Iterator[Searcher]:
    with Searcher(library.root) as searcher:
        yield searcher


def good(library: Library) -> list[Picture]:
    root = Path(library.images_root)
    files = sorted(path for path in root.iterdir() if path.suffix in (".jpg", ".png") and path.name != "broken.jpg")
    with Image.open(files[2]) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return [*files, "id:1", files[0].read_bytes(), BytesIO(files[1].read_bytes()), pixels, str(files[3])]


def compare(one: Answer, other: Answer) -> None:
    assert [hit.id for hit in one.hits] == [hit.id for hit in other.hits]
    assert [hit.score for hit in one.hits] == pytest.approx([hit.score for hit in other.hits], abs=1e-5)
    assert (one.query, one.file, one.index, one.version) == (other.query, other.file, other.index, other.version)
    for hit, twin in zip(one.hits, other.hits, strict=True):
        assert hit.scores == pytest.approx(twin.scores, abs=1e-5)


def test_many_are_answered_as_one_at_a_time(
    library: Library, searcher: Searcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [searcher.search([query])[0] for query in good(library)]
    monkeypatch.setattr(many_pictures, "FIRST_ALONE", 3)
    together = searcher.search(good(library))
    assert searcher._many._pool is not None
    streamed = list(searcher.search_each(iter(good(library))))
    for one, other, third in zip(alone, together, streamed, strict=True):
        compare(one, other)
        assert isinstance(third, Answer)
        compare(one, third)
    assert all(answer.embed_ms > 0 for answer in together if not answer.query.startswith("id:"))


def test_a_bad_one_is_told_in_its_turn_and_the_others_go_on(
    library: Library, searcher: Searcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = Path(library.images_root) / "coffee.png"
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:20_000])
    (tmp_path / "text.jpg").write_text("no picture")
    os.mkfifo(tmp_path / "pipe.jpg")
    bad: list[tuple[Picture, str]] = [
        (tmp_path / "empty.png", "the file is empty"),
        (tmp_path / "cut.png", "cannot be decoded"),
        (tmp_path / "nowhere.png", r"cannot be read \(No such file or directory\): give the path"),
        (tmp_path / "text.jpg", "none of the image formats"),
        (tmp_path / "pipe.jpg", "not a regular file"),
        (np.zeros((3, 3), np.uint8), "give RGB pixels"),
        (b"nonsense", "8 bytes: the content is none"),
        ("id:4711", "no image of this id"),
    ]
    for first_alone in (100, 2):
        monkeypatch.setattr(many_pictures, "FIRST_ALONE", first_alone)
        queries = [part for query, _ in bad for part in (query, photo)]
        answers = list(searcher.search_each(iter(queries), 1))
        for answer in answers[1::2]:
            assert isinstance(answer, Answer)
            assert answer.hits[0].path in ("coffee.png", "sub/caf\\xe9.png")
        for answer, (query, said) in zip(answers[::2], bad, strict=True):
            assert isinstance(answer, QueryError)
            with pytest.raises(QueryError, match=said):
                raise answer
            if isinstance(query, Path):
                assert str(answer).startswith(f"query {query}")
        with pytest.raises(QueryError, match=bad[0][1]):
            searcher.search(queries)


def test_a_picture_that_ends_its_worker_costs_itself(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_pictures, "FIRST_ALONE", 0)
    photo = Path(library.images_root) / "coffee.png"
    Image.new("RGB", (9_000, 9_000)).save(tmp_path / "slow.png")
    queries = [photo, tmp_path / "slow.png", photo]
    with Searcher(library.root, "color", decode_timeout_s=0.2) as searcher:
        first, slow, last = searcher.search_each(iter(queries), 1)
    assert isinstance(first, Answer)
    assert isinstance(last, Answer)
    assert str(slow).startswith(f"query {tmp_path / 'slow.png'}: decoding takes longer than")


def test_a_stream_is_not_read_far_ahead(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_pictures, "FIRST_ALONE", 2)
    photo, asked = Path(library.images_root) / "coffee.png", 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield photo

    with Searcher(library.root, "color") as searcher:
        answers = searcher.search_each(endless(), 1)
        next(answers)
        assert asked == 1
        for _ in range(10):
            assert isinstance(next(answers), Answer)
        assert asked < 200
        answers.close()  # type: ignore[attr-defined] # a generator
