"""Which photos may be hits: conditions, patterns, and searches among what they allow."""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec.search import Filter, Searcher, Term
from imgrec.search.indexes import adding, allowed
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.path_patterns import path_condition
from imgrec.search.ranges import id_ranges, size_range
from imgrec.storage.errors import FilterError
from imgrec.storage.library import Library
from imgrec.storage.photos.exclusion import parse_patterns
from imgrec.storage.registry import conditions
from imgrec.storage.registry.conditions import ImageConditions, _path_matches
from imgrec.storage.registry.registry import Registry
from tests.search.conftest import make_library
from tests.search.libraries import PARAMETERS, VectorLibrary, random_rows, search_exactly, unit_rows
from tests.search.test_searcher import ids_of


@pytest.fixture
def searcher(pictures: Library) -> Iterator[Searcher]:
    with Searcher(pictures.root) as searcher:
        yield searcher


def found(searcher: Searcher, where: Filter | str | None, query: str = "id:1") -> set[str]:
    (answer,) = searcher.search([query], 100, where=where)
    assert [hit.rank for hit in answer.hits] == [*range(1, len(answer.hits) + 1)]
    return {hit.path for hit in answer.hits}


ALL = {
    "astronaut.png", "camera.png", "chelsea.png", "china.jpg", "coffee.png", "flower.jpg", "grace_hopper.jpg",
    "rocket.jpg", "sub/caf\\xe9.png",
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter(), ALL),
        ("width >= 600 and format = 'PNG'", {"coffee.png", "sub/caf\\xe9.png"}),
        (Filter(where=("width >= 600", "path not like 'sub/%'", "format = 'PNG'")), {"coffee.png"}),
        (Filter(formats=("jpg",)), {path for path in ALL if path.endswith("jpg")}),
        (Filter(formats=("PNG", ".jpeg")), ALL),
        (Filter(paths=("sub/**",)), {"sub/caf\\xe9.png"}),
        (Filter(paths=("*.png",)), {path for path in ALL if path.endswith("png")}),
        (Filter(paths=("!sub", "!*.png")), {path for path in ALL if path.endswith("jpg")}),
        (Filter(paths=("c*", "!*.jpg", "china.jpg")), {"camera.png", "chelsea.png", "china.jpg", "coffee.png",
                                                       "sub/caf\\xe9.png"}),
        (Filter(paths=("nothing/**",)), set()),
        ("id in (select id from images where width > height) and id in (select id from images where path glob 'c*')",
         {"chelsea.png", "china.jpg", "coffee.png"}),
        ("status = 'corrupt' or modified > '1971-01-01 00:00:00'", ALL),
        ("width > 1 -- and a remark", ALL),
    ],
)  # fmt: skip
def test_a_filter_allows_what_it_says(searcher: Searcher, where: Filter | str, expected: set[str]) -> None:
    assert found(searcher, where) == expected


def test_sizes_and_ids(pictures: Library, searcher: Searcher) -> None:
    ids, root = ids_of(pictures), Path(pictures.images_root)
    big = {path for path in ids if (root / path).stat().st_size >= 200_000 and path in ALL}
    assert found(searcher, Filter(size="+200k")) - {"sub/caf\\xe9.png"} == big
    assert found(searcher, Filter(size="-199999")) == ALL - big - {"sub/caf\\xe9.png"}
    some = (ids["china.jpg"], ids["broken.jpg"], ids["rocket.jpg"], 99_999, 2**63 - 1)
    assert found(searcher, Filter(ids=some)) == {"china.jpg", "rocket.jpg"}
    assert found(searcher, Filter(ids=some, paths=("c*",))) == {"china.jpg"}
    assert found(searcher, Filter(ids=())) == set()


def test_pictures_words_and_vectors_are_filtered_alike(pictures: Library, searcher: Searcher) -> None:
    where = Filter(formats=("jpeg",))
    expected = {path for path in ALL if path.endswith("jpg")}
    photo = Path(pictures.images_root) / "coffee.png"
    for query in (str(photo), photo.read_bytes()):
        (answer,) = searcher.search([query], where=where)
        assert {hit.path for hit in answer.hits} == expected
    mixed = searcher.search_terms([Term("id:1", is_text=False), Term("id:3", -0.5, is_text=False)], where=where)
    assert {hit.path for hit in mixed.hits} == expected
    (hits,) = searcher.search_vectors(random_rows(1, 512), where=where)
    assert {hit.path for hit in hits} == expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("widht > 2", "no such column: widht"),
        ("width >", "incomplete input"),
        ("1; DROP TABLE images", "one statement"),
        ("1); DELETE FROM images; --", "syntax error"),
        ("1) OR (1", "syntax error"),
        ("1 LIMIT 3", "syntax error"),
        ("1 UNION SELECT 5", "syntax error"),
        ("1 /* and so on", "incomplete input"),
        ("width > ?", "binding"),
        ("id IN (SELECT image_id FROM color_vectors)", "prohibited"),
        ("id IN (SELECT rootpage FROM sqlite_master)", "prohibited"),
        ("EXISTS (SELECT 1 FROM pragma_database_list)", "authorized"),
        ("load_extension('evil')", "not authorized to use function: load_extension"),
        ("length(randomblob(1000000000)) > 1", "not authorized to use function: randomblob"),
        ("id IN (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)", "authorized"),
        ("abs(-9223372036854775808)", "integer overflow"),
        ("replace(printf('%02999d', 0), '0', printf('%0999d', 0)) > ''", "too big"),
        ("a\0b", "null"),
    ],
)
def test_a_bad_condition_is_one_line(pictures: Library, searcher: Searcher, where: str, said: str) -> None:
    before = pictures.registry_path.read_bytes()
    with pytest.raises(FilterError, match=said) as error:
        found(searcher, where)
    assert "\n" not in str(error.value)
    assert "such as width > 2000" in str(error.value)
    assert pictures.registry_path.read_bytes() == before


def test_a_condition_that_never_ends_is_ended(searcher: Searcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "TIMEOUT_S", 0.2)
    tables = ", ".join(f"images i{number}" for number in range(12))
    with pytest.raises(FilterError, match="it takes longer than"):
        found(searcher, f"(SELECT count(*) FROM {tables}) > 3")
    assert found(searcher, Filter()) == ALL


@pytest.mark.parametrize(
    "nonsense",
    [{"where": " "}, {"paths": "# a remark"}, {"paths": ""}, {"formats": "docx"}, {"size": "large"}, {"size": ".."},
     {"ids": (-1,)}],
)  # fmt: skip
def test_a_filter_that_says_nothing_is_refused(nonsense: dict[str, object]) -> None:
    with pytest.raises(FilterError):
        Filter(**nonsense)  # type: ignore[arg-type]


def test_ranges() -> None:
    assert size_range("1M..5Mi") == (1_000_000, 5 * 1024**2)
    assert (size_range("+1.5k"), size_range("-2GB"), size_range("7")) == ((1_500, None), (None, 2 * 10**9), (7, 7))
    assert id_ranges(["3,id:7", "5..6"]) == (3, 7, 5, 6)


NAMES = st.text("ab.*?/", min_size=1, max_size=8)


@given(st.lists(NAMES.map(lambda text: text.replace("*?", "*")), min_size=1, max_size=3), st.lists(NAMES, max_size=8))
def test_patterns_mean_in_sql_what_they_mean_in_git(patterns: list[str], paths: list[str]) -> None:
    patterns = [pattern for pattern in patterns if pattern.strip() and parse_patterns([pattern])]
    paths = [re.sub("/+", "/", path).strip("/").replace("*", "c").replace("?", "d") for path in paths]
    if not patterns:
        return
    condition = path_condition(patterns)
    connection = sqlite3.connect(":memory:")
    connection.create_function("path_matches", 2, _path_matches)
    for path in filter(None, paths):
        (decided,) = connection.execute(
            f"SELECT {condition.sql} FROM (SELECT {path!r} AS path)", condition.values
        ).fetchone()
        said = next((p.takes_out for p in parse_patterns(patterns) if p.regex.search(path)), False)
        assert bool(decided) == said, (patterns, path)
    connection.close()


# What is kept


def test_what_is_allowed_is_kept_until_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = make_library(tmp_path)
    asked: list[object] = []
    ids = ImageConditions.ids

    def count(*given: Any) -> Ids:
        asked.append(given)
        return ids(*given)

    monkeypatch.setattr(ImageConditions, "ids", count)
    with Searcher(library.root) as searcher:
        for _ in range(3):
            assert found(searcher, Filter(paths=("sub/**",))) == {"sub/caf\\xe9.png"}
        assert len(asked) == 1
        with Registry.open_for_writing(library.registry_path) as registry:
            registry.connection.execute("UPDATE images SET path = 'sub/rocket.jpg' WHERE path = 'rocket.jpg'")
        assert found(searcher, Filter(paths=("sub/**",))) == {"sub/caf\\xe9.png", "sub/rocket.jpg"}
        assert len(asked) == 2
        for number in range(30):
            found(searcher, f"width > {number}")
        assert len(searcher._narrowing._kept) == 8


# The engine


def test_what_is_allowed_is_searched_as_if_it_were_all(vectors: VectorLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph, a small segment, tombstones and copies, against exact search of what is allowed."""
    monkeypatch.setattr(allowed, "_EXACT_BYTES", 4 * 8 * 100)
    rows = random_rows(5_200, 8)
    rows[4_900:] = rows[:300]
    ids = np.array(vectors.add(rows, in_shard=True))
    monkeypatch.setattr(adding, "FULL_ROWS", dict.fromkeys(adding.FULL_ROWS, 400))
    vectors.update(replace(PARAMETERS, ef_construction=40))
    ids = np.append(ids, vectors.add(random_rows(300, 8, seed=1)))
    vectors.mark(ids[100:200].tolist(), missing=True)
    vectors.update(replace(PARAMETERS, ef_construction=40))
    assert [entry.vectors for entry in vectors.folder.read_manifest().segments] == [5_200, 300]
    opened, all_live = IndexReader(vectors.folder), vectors.live()
    for share in (0.0, 0.0005, 0.03, 0.3, 0.6, 1.0):
        allowed_ids = np.sort(np.random.default_rng(3).choice(ids, int(share * len(ids)), replace=False))
        live = {i: row for i, row in all_live.items() if i in set(allowed_ids.tolist())}
        check_search(vectors, opened, allowed_ids, ids, live)


def check_search(
    vectors: VectorLibrary, opened: IndexReader, allowed_ids: Ids, ids: Ids, live: dict[int, Vectors]
) -> None:
    left = opened.allow(np.append(allowed_ids, 10**6))
    assert left.images == len(live)
    assert left.contains(np.append(ids, 10**7)).tolist() == [i in live for i in [*ids.tolist(), 10**7]]
    queries, k = random_rows(50, 8, seed=2), 10
    scores, found_ids = search_exactly(vectors, queries, k, left)
    best = min(k, len(live))
    assert (found_ids[:, best:] == -1).all()
    assert set(found_ids[:, :best].ravel().tolist()) <= live.keys()
    assert all(len(set(row)) == best for row in found_ids[:, :best].tolist())
    if live:
        exact = -np.sort(-(queries @ np.stack(list(live.values())).T), axis=1)[:, :k]
        assert (scores[:, :best] >= exact[:, best - 1 : best] - 1e-6).mean() >= 0.99


def test_photos_far_from_the_query_are_found_among_those_that_are_left_out(vectors: VectorLibrary) -> None:
    """The graph ends its search among neighbours that may be no hits; then all that may be are compared."""
    near = random_rows(5_300, 8) * 0.3 + np.eye(8, dtype=np.float32)[0]
    far = random_rows(700, 8, seed=1) * 0.3 - np.eye(8, dtype=np.float32)[0]
    rows = unit_rows(np.concatenate([near, far]))
    ids = np.array(vectors.add(rows, in_shard=True))
    vectors.update(replace(PARAMETERS, ef_construction=40))
    opened = IndexReader(vectors.folder)
    scores, found_ids = search_exactly(vectors, rows[:20], 10, opened.allow(ids[5_300:]))
    exact = -np.sort(-(rows[:20] @ rows[5_300:].T), axis=1)[:, :10]
    assert (found_ids > 0).all()
    assert scores == pytest.approx(exact, abs=1e-5)
