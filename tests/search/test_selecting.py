"""The query's own photo as no hit, and copies of one photo as one."""

import shutil
from io import BytesIO
from pathlib import Path

import pytest

from imgrec.search import Answer, Filter, Searcher, Term
from imgrec.storage.library import Library, create_library
from tests.search.conftest import SETTINGS, make_library
from tests.search.libraries import ingest
from tests.search.test_searcher import ids_of


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Eight pictures, of which the coffee is there 40 times and the rocket 3 times."""
    home = tmp_path_factory.mktemp("copied")
    photos = Path(make_library(home / "made").images_root)
    for number in range(38):
        shutil.copy(photos / "coffee.png", photos / "sub" / f"coffee-{number:02d}.png")
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(photos / "rocket.jpg", photos / name)
    library = create_library(home / "library", photos, ("color",), SETTINGS)
    ingest(library)
    return library


def scores(answer: Answer) -> list[float]:
    return [hit.score for hit in answer.hits]


def test_the_own_photo_is_no_hit_by_its_id_and_by_its_content(copied: Library) -> None:
    ids, root = ids_of(copied), Path(copied.images_root)
    rocket = root / "rocket.jpg"
    with Searcher(copied.root) as searcher:
        (by_id,) = searcher.search([f"id:{ids['rocket.jpg']}"], 3, not_itself=True)
        assert {hit.path for hit in by_id.hits[:2]} == {"a.jpg", "b.jpg"}
        assert len(by_id.hits) == 3
        for answer in searcher.search([rocket, rocket.read_bytes(), BytesIO(rocket.read_bytes())], 5, not_itself=True):
            assert not {"a.jpg", "b.jpg", "rocket.jpg"} & {hit.path for hit in answer.hits}
            assert len(answer.hits) == 5
        (everything,) = searcher.search([rocket], 100)
        (others,) = searcher.search([rocket], 100, not_itself=True)
        assert [hit.id for hit in others.hits] == [hit.id for hit in everything.hits[3:]]
        mixed = searcher.search_terms(
            [Term(str(rocket), is_text=False), Term(f"id:{ids['china.jpg']}", -0.1, is_text=False)],
            100,
            not_itself=True,
        )
        assert {hit.path for hit in everything.hits} - {hit.path for hit in mixed.hits} == {
            "a.jpg", "b.jpg", "rocket.jpg", "china.jpg",
        }  # fmt: skip


def test_copies_are_one_hit_and_as_many_hits_come_as_there_are(copied: Library) -> None:
    ids, root = ids_of(copied), Path(copied.images_root)
    with Searcher(copied.root) as searcher:
        (answer,) = searcher.search([root / "coffee.png"], 3, collapse_copies=True)
        first = min(i for name, i in ids.items() if "coffee" in name or "caf" in name)
        assert (answer.hits[0].id, answer.hits[0].copies) == (first, 40)
        assert len({hit.score for hit in answer.hits}) == 3
        (all_of_them,) = searcher.search([root / "coffee.png"], 100, collapse_copies=True)
        assert len(all_of_them.hits) == 8
        assert {hit.path: hit.copies for hit in all_of_them.hits if (hit.copies or 0) > 1} == {
            "a.jpg": 3,
            "coffee.png": 40,
        }
        assert scores(all_of_them) == sorted(scores(all_of_them), reverse=True)
        (by_vector,) = searcher.search_vectors(
            searcher._serving.open.queries.embed(f"id:{first}").vectors["color"][None], 3, collapse_copies=True
        )
        assert [hit.copies for hit in by_vector] == [hit.copies for hit in answer.hits]


def test_copies_are_counted_among_what_a_filter_allows(copied: Library) -> None:
    rocket = Path(copied.images_root) / "rocket.jpg"
    with Searcher(copied.root) as searcher:
        where = Filter(paths=("sub/*", "rocket.jpg", "!*caf*"))
        (answer,) = searcher.search([rocket], 10, where=where, collapse_copies=True)
        assert [(hit.path, hit.copies) for hit in answer.hits] == [("rocket.jpg", 1), ("sub/coffee-00.png", 38)]


def test_all_copies_are_the_own_photo_where_copies_are_one(copied: Library) -> None:
    ids = ids_of(copied)
    with Searcher(copied.root) as searcher:
        (answer,) = searcher.search([f"id:{ids['a.jpg']}"], 100, not_itself=True, collapse_copies=True)
    assert len(answer.hits) == 7
    assert not {hit.path for hit in answer.hits} & {"a.jpg", "b.jpg", "rocket.jpg"}
