"""What an ingest looks at where little changed: the images that triggers wrote down, and no others."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgrec.storage import forgetting
from imgrec.storage.mirror import mirror_shards, read_or_set_aside
from imgrec.storage.registry.changes import are_tracked, is_in_step, look_at_all, settle, track
from imgrec.storage.registry.failures import forget_failures
from imgrec.storage.registry.migrations import migrate
from imgrec.storage.registry.pending import list_pending, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import NO_FEATURES, Failure, Shard
from tests.storage.rows import COLOR, SIFT, add_image, hash_of, make_shard, register, vector_of, write

BOTH = {"color": COLOR, "sift": SIFT}
INDEXES = {"color": {"color": COLOR}, "sift": {"sift": SIFT}, "combo_color_sift": BOTH}


@pytest.fixture(autouse=True)
def known_embedders(registry: Registry) -> None:
    register(registry)


def add_vector(registry: Registry, image_id: int, modality: str = "color") -> None:
    registry.connection.execute(
        f"INSERT INTO {modality}_vectors VALUES (?, ?, ?)", (image_id, BOTH[modality], vector_of(image_id).tobytes())
    )


def add_failure(registry: Registry, number: int, modality: str = "sift") -> None:
    registry.connection.execute(
        "INSERT INTO vector_failures VALUES (?, ?, ?, 'why')", (hash_of(number), BOTH[modality], NO_FEATURES)
    )


def touched(registry: Registry) -> list[int]:
    return list(registry.touched_ids())


def pending(registry: Registry) -> dict[bytes, tuple[str, ...]]:
    return {
        entry.content_hash: group.modalities
        for group in list_pending(registry, BOTH)
        for entry in read_pending(registry, group.start, group.images)
    }


def settled(registry: Registry) -> None:
    """Three images with all their vectors, none of them touched."""
    for number in (1, 2, 3):
        image_id = add_image(registry, number)
        add_vector(registry, image_id)
        add_vector(registry, image_id, "sift")
    track(registry, BOTH)
    settle(registry, BOTH, {"color": ("v1", [COLOR])})


CHANGES: dict[str, Callable[[sqlite3.Connection], object]] = {
    "missing": lambda c: c.execute("UPDATE images SET missing_since = 'now' WHERE id = 2"),
    "failed": lambda c: c.execute("UPDATE images SET status = 'corrupt' WHERE id = 2"),
    "other content": lambda c: c.execute("UPDATE images SET content_hash = x'00' WHERE id = 2"),
    "forgotten": lambda c: c.execute("DELETE FROM images WHERE id = 2"),
    "vector gone": lambda c: c.execute("DELETE FROM color_vectors WHERE image_id = 2"),
    "failure": lambda c: c.execute("INSERT INTO vector_failures VALUES (?, ?, 'corrupt', '')", (hash_of(2), COLOR)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_whatever_decides_about_an_image_touches_it(
    registry: Registry, change: Callable[[sqlite3.Connection], object]
) -> None:
    settled(registry)
    registry.connection.execute("PRAGMA foreign_keys = OFF")
    assert touched(registry) == []
    change(registry.connection)
    assert touched(registry) == [2]
    assert is_in_step(registry, "color", "v1", [COLOR])


def test_what_decides_nothing_touches_nothing(registry: Registry) -> None:
    settled(registry)
    registry.connection.execute("UPDATE images SET path = 'moved/' || path, mtime_ns = 9, status = status")
    registry.connection.execute("UPDATE images SET missing_since = NULL")
    add_failure(registry, 99)
    assert touched(registry) == []


def test_new_images_and_their_vectors_are_touched_until_indexes_are_in_step(registry: Registry) -> None:
    settled(registry)
    new = add_image(registry, 4)
    assert pending(registry) == {hash_of(4): ("color", "sift")}
    add_vector(registry, new)
    assert touched(registry) == [new]
    settle(registry, BOTH, {})
    assert touched(registry) == [new], "it waits for sift"
    assert pending(registry) == {hash_of(4): ("sift",)}
    add_failure(registry, 4)
    settle(registry, BOTH, {})
    assert touched(registry) == []
    assert pending(registry) == {}


def test_an_index_is_in_step_in_one_version_as_long_as_its_vectors_are_followed(registry: Registry) -> None:
    settled(registry)
    assert is_in_step(registry, "color", "v1", [COLOR])
    assert not is_in_step(registry, "color", "v2", [COLOR])
    assert not is_in_step(registry, "sift", "v1", [SIFT])
    settle(registry, {"sift": SIFT}, {"sift": ("v1", [SIFT]), "color": ("v1", [COLOR])})
    assert is_in_step(registry, "sift", "v1", [SIFT])
    track(registry, BOTH)  # what happened in between is not known
    assert not is_in_step(registry, "color", "v1", [COLOR])
    look_at_all(registry)
    assert not is_in_step(registry, "sift", "v1", [SIFT])
    assert not are_tracked(registry, [SIFT])


@pytest.mark.parametrize("loss", ["fingerprint", "table"])
def test_nothing_is_in_step_after_vectors_were_lost_as_a_whole(registry: Registry, loss: str) -> None:
    settled(registry)
    if loss == "fingerprint":
        registry.forget_fingerprint(SIFT, "sift")
    else:
        registry.connection.execute("DROP TABLE sift_vectors")
        registry.create_vector_table("sift")
    assert not is_in_step(registry, "color", "v1", [COLOR])
    register(registry)
    assert pending(registry) == {hash_of(number): ("sift",) for number in (1, 2, 3)}


def test_a_retried_image_opens_only_the_shards_that_failed_it(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(number: int) -> Failure:
        return Failure(hash_of(number), "corrupt", "why")

    for number in range(6):
        add_image(registry, number)
    sound, one, other = (
        write(tmp_path, make_shard(0, 1)),
        write(tmp_path, make_shard(2, failures=(failed(3),))),
        write(tmp_path, make_shard(4, failures=(failed(5),))),
    )
    mirror_shards(registry, tmp_path, [sound, one, other])
    # As an older version recorded it.
    registry.connection.execute("UPDATE shards SET failed = NULL WHERE path = ?", (str(one.relative_to(tmp_path)),))
    opened: list[Path] = []

    def read(path: Path) -> Shard | None:
        opened.append(path)
        return read_or_set_aside(path)

    monkeypatch.setattr(forgetting, "read_or_set_aside", read)
    for path in (sound, other):
        path.chmod(0)
    forget_failures(registry, tmp_path, {hash_of(3)})
    assert opened == [one]
    assert registry.connection.execute("SELECT count(*) FROM shards WHERE failed IS NULL").fetchone() == (0,)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "gone", "back", "vector", "no vector", "failure", "no failure", "fail", "settle"]),
        st.integers(1, 5),
        st.sampled_from(["color", "sift"]),
    ),
    max_size=30,
)


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_what_is_asked_of_a_few_is_what_is_true_of_all(steps: list[tuple[str, int, str]]) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection, Path(":memory:"))
    registry = Registry(connection)
    register(registry)
    run = connection.execute
    known = {name: set(registry.complete_ids(members).tolist()) for name, members in INDEXES.items()}
    list_pending(registry, BOTH)
    settle(registry, BOTH, {name: ("v", members.values()) for name, members in INDEXES.items()})
    for step, (what, number, modality) in enumerate(steps):
        ids = [row[0] for row in run("SELECT id FROM images WHERE content_hash = ?", (hash_of(number),))]
        if what == "add":
            add_image(registry, number, f"{step}.png")
        elif what in ("gone", "back"):
            since = "now" if what == "gone" else None
            run("UPDATE images SET missing_since = ? WHERE content_hash = ?", (since, hash_of(number)))
        elif what == "vector":
            for image_id in ids:
                run(f"DELETE FROM {modality}_vectors WHERE image_id = ?", (image_id,))
                add_vector(registry, image_id, modality)
        elif what == "no vector":
            registry.forget_vectors(modality, BOTH[modality], [hash_of(number)])
        elif what == "failure":
            run("INSERT OR REPLACE INTO vector_failures VALUES (?, ?, ?, '')", (hash_of(number), BOTH[modality], "x"))
        elif what == "no failure":
            run("DELETE FROM vector_failures WHERE content_hash = ?", (hash_of(number),))
        elif what == "fail":
            registry.mark_failed([(hash_of(number), "corrupt", "why")])
        else:
            for name, members in INDEXES.items():
                known[name] -= set(registry.touched_ids().tolist())
                known[name] |= set(registry.complete_ids(members, touched_only=True).tolist())
                assert known[name] == set(registry.complete_ids(members).tolist())
            settle(registry, BOTH, {name: ("v", members.values()) for name, members in INDEXES.items()})
        for name, fingerprint in BOTH.items():
            registry.copy_vectors(name, fingerprint)
        waiting = {i for name, value in BOTH.items() for i in registry.waiting_ids(name, value).tolist()}
        contents = {row[1] for row in run("SELECT id, content_hash FROM images") if row[0] in waiting}
        assert set(pending(registry)) == contents
    connection.close()
