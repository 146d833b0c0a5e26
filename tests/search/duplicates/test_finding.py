"""Groups found in libraries of vectors: real registry, real index."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from imgrec.search.duplicates import stars
from imgrec.search.duplicates.errors import ExactCopiesError, GroupNotFoundError
from imgrec.search.duplicates.finding import Asked, Duplicates
from imgrec.search.duplicates.groups import Group
from imgrec.search.duplicates.settling import reopen_groups, settle_groups
from imgrec.storage.library import Library, create_library, open_library
from imgrec.storage.registry.duplicates import DIFFERENT, LEFT, read_settled
from imgrec.storage.registry.registry import Registry
from tests.search.libraries import VectorLibrary, Vectors, open_vector_library, random_rows, unit_rows

DIM = 32
FORMAT_1 = Path(__file__).parents[2] / "data" / "library-format-1"


@pytest.fixture
def home(tmp_path: Path) -> Library:
    return create_library(tmp_path, tmp_path / "photos", ("color",), {})


def find(home: Library, vectors: VectorLibrary, **asked: object) -> list[Group]:
    found = Duplicates(home, vectors.registry, Asked(**asked), lambda *_: None)  # type: ignore[arg-type]
    return list(found.groups())


def ids_of(groups: Sequence[Group]) -> list[list[int]]:
    return [sorted(copy.id for copy in group.copies) for group in groups]


def near(rows: Vectors, cosine: float, seed: int = 1) -> Vectors:
    """Rows of this cosine to each of `rows`."""
    other = np.random.default_rng(seed).standard_normal(rows.shape)
    other -= (other * rows).sum(axis=1, keepdims=True) * rows
    return unit_rows(cosine * rows + np.sqrt(1 - cosine**2) * unit_rows(other))


def copy_of(vectors: VectorLibrary, image_id: int, path: str) -> int:
    """A new path of the same content, with its vector, as a scan and an ingest make it."""
    run = vectors.registry.connection.execute
    new = run(
        """INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status)
           SELECT ?, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status FROM images WHERE id = ?""",
        (path, image_id),
    ).lastrowid
    run(
        "INSERT INTO color_vectors SELECT ?, fingerprint, vector FROM color_vectors WHERE image_id = ?", (new, image_id)
    )
    assert new is not None
    return new


def test_exact_and_near_copies(home: Library) -> None:
    with open_vector_library(home.root, DIM) as vectors:
        rows = random_rows(50, DIM)
        vectors.add(rows)
        (almost,) = vectors.add(near(rows[4:5], 0.995))
        (less,) = vectors.add(near(rows[5:6], 0.9))
        exact = copy_of(vectors, 8, "copy.png")
        vectors.update()

        groups = find(home, vectors)
        assert [(group.number, group.kind) for group in groups] == [(5, "near"), (8, "exact")]
        assert ids_of(groups) == [[5, almost], [8, exact]]
        assert groups[0].copies[1].score == pytest.approx(0.995, abs=1e-5)
        assert [copy.keep for copy in groups[0].copies] == [True, False]
        assert ids_of(find(home, vectors, threshold=0.89)) == [[5, almost], [6, less], [8, exact]]
        assert ids_of(find(home, vectors, exact=True)) == [[8, exact]]

        vectors.mark([5, exact], missing=True)  # of an index that knows nothing of it yet
        assert find(home, vectors) == []


def test_a_library_from_before_there_were_settled_groups(tmp_path: Path) -> None:
    """It is read as it is: nothing is written where nothing is settled."""
    shutil.copytree(FORMAT_1, tmp_path / "old")
    old = open_library(tmp_path / "old" / "library")
    with Registry.open_for_reading(old.registry_path) as registry:
        before = registry.connection.execute("PRAGMA user_version").fetchone()
        assert list(Duplicates(old, registry, Asked(), lambda *_: None).groups()) == []
        groups = list(Duplicates(old, registry, Asked(threshold=-1), lambda *_: None).groups())
        assert registry.connection.execute("PRAGMA user_version").fetchone() == before
    assert len(groups) == 1

    settle_groups(old, groups, [groups[0].number], LEFT)
    with Registry.open_for_reading(old.registry_path) as registry:
        assert list(Duplicates(old, registry, Asked(threshold=-1), lambda *_: None).groups()) == []


def test_a_photo_without_a_vector_has_exact_copies(home: Library) -> None:
    with open_vector_library(home.root, DIM) as vectors:
        vectors.add(random_rows(20, DIM))
        vectors.registry.connection.execute("DELETE FROM color_vectors WHERE image_id = 3")
        copy_of(vectors, 3, "copy.png")
        vectors.update()

        assert [(group.kind, *ids_of([group])) for group in find(home, vectors)] == [("exact", [3, 21])]


def test_a_chain_in_an_index_is_cut(home: Library) -> None:
    """Each is near the next one, the first and the last are not."""
    angles = np.arange(9) * 0.1  # cos 0.1 = .995, cos 0.2 = .980
    rows = np.zeros((9, DIM))
    rows[:, 0], rows[:, 1] = np.cos(angles), np.sin(angles)
    with open_vector_library(home.root, DIM) as vectors:
        vectors.add(unit_rows(rows))
        vectors.update()

        groups = find(home, vectors)
        assert len(groups) > 1
        assert all(max(ids) - min(ids) <= 2 for ids in ids_of(groups))


def test_what_is_not_near_what_is_kept_is_kept_too(home: Library) -> None:
    """The largest photo is at the rim of its group: the one at the other rim does not go for it."""
    rows = np.zeros((3, DIM))
    rows[:, 0], rows[:, 1] = np.cos([0, 0.15, 0.3]), np.sin([0, 0.15, 0.3])
    with open_vector_library(home.root, DIM) as vectors:
        vectors.add(unit_rows(rows))
        vectors.registry.connection.execute("UPDATE images SET width = 100, height = 100 WHERE id = 1")
        vectors.update()

        (group,) = find(home, vectors)
        assert [(copy.id, copy.keep, copy.instead) for copy in group.copies] == [
            (1, True, None),
            (2, False, 1),
            (3, True, None),
        ]


@pytest.mark.parametrize("kept_bytes", [2**28, 0])
def test_very_many_near_copies_are_one_group(home: Library, kept_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a look-up gives neighbours, in memory and read from the registry again and again."""
    monkeypatch.setattr(stars, "_KEPT_BYTES", kept_bytes)
    with open_vector_library(home.root, DIM) as vectors:
        blank = near(np.repeat(random_rows(1, DIM), 1_500, axis=0), 0.999)
        vectors.add(blank)
        vectors.add(random_rows(500, DIM, seed=2))
        vectors.update()

        assert ids_of(find(home, vectors)) == [list(range(1, 1_501))]


def test_ten_thousand_equal_pictures_are_one_group_and_hide_none(home: Library) -> None:
    with open_vector_library(home.root, DIM) as vectors:
        blank = random_rows(1, DIM)
        vectors.add(np.repeat(blank, 10_000, axis=0))
        vectors.add(random_rows(500, DIM, seed=2))
        (other,) = vectors.add(near(blank, 0.995))
        vectors.update()

        assert ids_of(find(home, vectors)) == [[*range(1, 10_001), other]]


def test_settled_groups_stay_settled(home: Library) -> None:
    with open_vector_library(home.root, DIM) as vectors:
        rows = random_rows(30, DIM)
        vectors.add(rows)
        vectors.add(near(rows[:2], 0.995))  # 31, 32: near 1, 2
        exact = copy_of(vectors, 9, "copy.png")
        vectors.update()
        groups = find(home, vectors)
        assert ids_of(groups) == [[1, 31], [2, 32], [9, exact]]

        with pytest.raises(GroupNotFoundError, match="no group 77"):
            settle_groups(home, groups, [1, 77], LEFT)
        with pytest.raises(ExactCopiesError, match="group 9"):
            settle_groups(home, groups, [9], DIFFERENT)
        assert read_settled(vectors.registry) == []
        settle_groups(home, groups, [1, 9], LEFT)
        settle_groups(home, groups, [2], DIFFERENT)
        assert find(home, vectors) == []

        vectors.registry.connection.execute("UPDATE images SET path = 'renamed.png' WHERE id = 1")
        copy_of(vectors, 31, "again.png")
        copy_of(vectors, 9, "third.png")
        assert find(home, vectors) == []
        twin = copy_of(vectors, 32, "twin.png")  # different pictures may have copies of their own
        assert ids_of(find(home, vectors)) == [[32, twin]]

        (new,) = vectors.add(near(rows[:1], 0.996, seed=5))  # a picture that nobody has seen is news
        vectors.update()
        assert [1, 31, new] == [i for i in ids_of(find(home, vectors))[0] if i != 34]

        reopen_groups(home, [group.number for group in read_settled(vectors.registry)])
        assert len(find(home, vectors)) == 3


def test_different_pictures_meet_in_no_group(home: Library) -> None:
    """Also where a third one is like both."""
    rows = np.zeros((3, DIM))
    rows[:, 0], rows[:, 1] = np.cos([0, 0.1, 0.05]), np.sin([0, 0.1, 0.05])
    with open_vector_library(home.root, DIM) as vectors:
        vectors.add(unit_rows(rows[:2]))
        vectors.update()
        settle_groups(home, find(home, vectors), [1], DIFFERENT)
        vectors.add(unit_rows(rows[2:]))
        vectors.update()

        groups = ids_of(find(home, vectors))
        assert len(groups) == 1 and not {1, 2} <= set(groups[0]) and 3 in groups[0]
