"""One Searcher in many threads, while versions are published; and what it does about those that it cannot open."""

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.search import Searcher, serving
from imgrec.search.errors import QueryError, SearcherClosedError
from imgrec.search.indexes import opening
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.opening import Reader
from imgrec.search.indexes.reader import IndexReader
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from tests.search.conftest import make_library
from tests.search.libraries import ingest

THREADS = 16
SIFT_TOO = {"bins": [8, 8, 8], "decode_min_side": 128, "sift_codebook": "default"}
CALLS: dict[str, Callable[[Searcher], object]] = {
    "search": lambda searcher: searcher.search(["id:1"]),
    "search_vectors": lambda searcher: searcher.search_vectors(np.ones((1, 512), np.float32)),
    "index": lambda searcher: searcher.index,
    "photos": lambda searcher: searcher.photos,
}


@pytest.fixture
def own(tmp_path: Path) -> Library:
    return make_library(tmp_path)


def ids_of(library: Library) -> dict[str, int]:
    with Registry.open_for_reading(library.registry_path) as registry:
        rows = registry.images(range(1, 100))
    return {row.file_path: image_id for image_id, row in rows.items() if row.status == "ok"}


def add_photo(library: Library, name: str, color: tuple[int, int, int]) -> None:
    Image.new("RGB", (50, 50), color).save(Path(library.images_root) / name)


# Many threads


def test_many_threads_search_while_an_ingest_publishes(own: Library) -> None:
    """Every answer is that of one version: a photo finds itself, by its file as by its id."""
    ids = ids_of(own)
    names = sorted(name for name in ids if name.endswith((".jpg", ".png")) and "coffee" not in name and "/" not in name)
    done = threading.Event()

    def search(thread: int) -> list[str]:
        versions: list[str] = []
        for turn in range(100_000):
            name = names[(thread + turn) % len(names)]
            query = Path(own.images_root) / name if turn % 4 == 0 else f"id:{ids[name]}"
            (answer,) = searcher.search([query], top_k=3)
            assert answer.hits[0].id == ids[name]
            assert answer.hits[0].path == name
            assert answer.hits[0].score == pytest.approx(1, abs=1e-5)
            if answer.version not in versions[-1:]:
                versions.append(answer.version)
            if done.is_set():
                break
            time.sleep(0.005)  # the ingest wants a turn too
        return versions

    with Searcher(own.root) as searcher, ThreadPoolExecutor(THREADS) as threads:
        searching = [threads.submit(search, number) for number in range(THREADS)]
        try:
            for number, bins in enumerate(([8, 8, 8], [4, 4, 4], [4, 4, 8])):
                add_photo(own, f"{number}.png", (60 * number, 0, 0))
                ingest(own.with_vector_settings({"bins": bins, "decode_min_side": 128}))
        finally:
            done.set()
        seen = [future.result() for future in searching]
        last = searcher.search(["id:1"])[0].version
    assert last == IndexFolder(own.indexes_dir, "color").current_version()
    for versions in seen:  # none comes back after it was replaced
        assert len(set(versions)) == len(versions) > 1


def test_a_call_that_is_under_way_finishes_though_the_searcher_is_closed(
    own: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, searching, closed = IndexReader.search, threading.Event(), threading.Event()

    def search_slowly(*arguments: object) -> object:
        searching.set()
        closed.wait()
        return search(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(IndexReader, "search", search_slowly)
    searcher = Searcher(own.root)
    with ThreadPoolExecutor(1) as threads:
        answers = threads.submit(searcher.search, ["id:1"])
        searching.wait()
        searcher.close()
        closed.set()
        assert answers.result()[0].hits[0].id == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_closed_searcher_says_so(pictures: Library, call: str) -> None:
    searcher = Searcher(pictures.root)
    searcher.close()
    searcher.close()
    with pytest.raises(SearcherClosedError, match="this Searcher is closed: open another one"):
        CALLS[call](searcher)


# Versions that cannot be taken up


def publish_version_of_other_code(library: Library) -> None:
    """As an ingest by another release of the program does."""
    folder = IndexFolder(library.indexes_dir, "color")
    manifest = folder.read_manifest()
    facts = folder.manifest_path(manifest.version).read_text()
    folder.version_dir("other").mkdir()
    folder.manifest_path("other").write_text(
        re.sub(r'"fingerprint": "\w+"', '"fingerprint": "0000000000000000"', facts).replace(manifest.version, "other")
    )
    folder.pointer.write_text("other")


def test_a_version_by_other_code_leaves_index_and_embedder_as_they_are(
    own: Library, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried once and not at every query, until there is another one."""
    tries: list[IndexFolder] = []
    open_reader = opening.open_reader

    def open_and_count(folder: IndexFolder) -> Reader:
        tries.append(folder)
        return open_reader(folder)

    monkeypatch.setattr(serving, "open_reader", open_and_count)
    photo = Path(own.images_root) / "rocket.jpg"
    with Searcher(own.root) as searcher:
        (before,) = searcher.search([photo])
        publish_version_of_other_code(own)
        for _ in range(5):
            (after,) = searcher.search([photo])
            assert (after.version, after.hits) == (before.version, before.hits)
        assert len(tries) == 2
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        assert "another version of color" in warning.message
        assert "the version before it goes on serving" in warning.message

        add_photo(own, "red.png", (255, 0, 0))
        ingest(own)
        (after,) = searcher.search([photo])
    assert after.version == IndexFolder(own.indexes_dir, "color").current_version()
    assert len(tries) == 3


def test_what_could_not_be_taken_up_is_tried_again_later(
    own: Library, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "TRY_AGAIN_AFTER_S", 0.05)
    refused = [OSError(24, "Too many open files")]
    open_reader = opening.open_reader

    def open_if_not_refused(folder: IndexFolder) -> Reader:
        if refused:
            raise refused[0]
        return open_reader(folder)

    with Searcher(own.root) as searcher:
        before = searcher.photos
        monkeypatch.setattr(serving, "open_reader", open_if_not_refused)
        add_photo(own, "red.png", (255, 0, 0))
        ingest(own)
        for _ in range(3):
            searcher.search(["id:1"])
            time.sleep(0.06)
        assert searcher.photos == before
        assert len(caplog.records) == 1
        refused.clear()
        searcher.search(["id:1"])
        assert searcher.photos == before + 1


# A library that gets more


def test_modalities_and_combinations_that_are_added_are_seen(own: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name, the library's default index is followed; with one, that stays."""
    monkeypatch.setattr(serving, "LOOK_EVERY_S", 0.0)
    photo = Path(own.images_root) / "chelsea.png"
    with Searcher(own.root) as searcher, Searcher(own.root, "color") as named:
        assert searcher.index == searcher.search([photo])[0].index == "color"
        ingest(own.with_vector_settings(SIFT_TOO).with_modalities(("color", "sift")))
        (answer,) = searcher.search([photo])
        assert answer.index == searcher.index == "combo_color_sift"
        assert answer.hits[0].path == "chelsea.png"
        assert answer.hits[0].scores == {"color": pytest.approx(1, abs=1e-5), "sift": pytest.approx(1, abs=1e-5)}
        (answer,) = named.search([photo], all_scores=True)
        assert answer.index == "color"
        assert set(answer.hits[0].scores) == {"color", "sift"}
        assert searcher.library.modalities == ("color", "sift")


def test_vectors_of_another_dim_are_told(pictures: Library) -> None:
    with Searcher(pictures.root) as searcher:
        with pytest.raises(QueryError, match=r"vectors of shape 1 × 7: index color is searched for rows of 512"):
            searcher.search_vectors(np.ones((1, 7), np.float32))
        with pytest.raises(QueryError, match=r"vectors of shape 512: index color"):
            searcher.search_vectors(np.ones(512, np.float32))
