"""An ingest in which little changed asks little of the registry."""

import io
import re
import sqlite3
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgrec.search.indexes import updating
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.updating import settle_indexes
from imgrec.storage.library import create_library
from imgrec.storage.photos.probe import Probe
from imgrec.storage.photos.roots import one_root
from imgrec.storage.photos.walk import WalkReport, walk_photos
from imgrec.storage.registry import comparison, probes
from imgrec.storage.registry.changes import track
from imgrec.storage.registry.comparison import compare
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import FILES_PER_PROBE
from tests.search.libraries import FINGERPRINT, VectorLibrary, ingest, random_rows
from tests.storage.pictures import Photos, wait_for_another_ctime

SETTINGS = {"bins": [2, 2, 2], "decode_min_side": 64, "sift_codebook": "default"}
# What reads the rows of all images or vectors; a count may read an index. All failed images are few, and of those whose
# header is unread there is none after an ingest.
_READS_ALL = re.compile(
    r"SCAN (images|i|copy|\w+_vectors|vector_failures|failure|index_rows)\b"
    r"(?!.* (COVERING INDEX|INDEX images_(failed|unread)))"
)


class Planning(sqlite3.Connection):
    """Notes what its statements read, before it runs them."""

    plans: list[str]

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql.lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            rows = super().execute(f"EXPLAIN QUERY PLAN {sql}", *parameters).fetchall()
            # What checks foreign keys of images that are added is planned, and run where one was broken before.
            self.plans += [f"{row[3]}: {sql}" for row in rows if not sql.lstrip().startswith("INSERT INTO images")]
        return super().execute(sql, *parameters)


def noise(seed: int) -> bytes:
    """A picture in which SIFT finds something."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).resize((96, 96)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("added", [0, 3])
def test_no_statement_reads_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: int) -> None:
    library = create_library(tmp_path / "library", tmp_path / "photos", ("color", "sift"), SETTINGS)
    with Registry.open_for_writing(tmp_path / "unused.sqlite") as registry:
        photos = Photos(tmp_path / "photos", registry)
    for number in range(12):
        photos.write(f"{number % 3}/{number}.png", content=noise(number))
    ingest(library)
    for number in range(added):
        photos.write(f"new/{number}.png", content=noise(100 + number))
    wait_for_another_ctime(tmp_path)
    Planning.plans = []
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Planning))
    ingest(library)
    with Registry.open_for_reading(library.registry_path) as registry:
        assert registry.count_images()["ok"] == 12 + added
        registry.count_failures(registry.fingerprints())
        list(registry.failures(registry.fingerprints()))
    assert len(Planning.plans) > 30
    assert [plan for plan in Planning.plans if _READS_ALL.match(plan)] == []


@pytest.fixture
def in_step(vectors: VectorLibrary) -> VectorLibrary:
    """An index of 60 vectors that is in step with its registry, and grows as large ones do."""
    vectors.add(random_rows(60, vectors.dim))
    track(vectors.registry, {"color": FINGERPRINT})
    settle(vectors)
    return vectors


def settle(vectors: VectorLibrary) -> str:
    report = vectors.update()
    settle_indexes(vectors.registry, {"color": FINGERPRINT}, [report])
    return report.action


def answers(vectors: VectorLibrary) -> set[int]:
    found = IndexReader(vectors.folder).search(random_rows(1, vectors.dim), 200, 200)[1]
    return set(found[found >= 0].tolist())


def test_an_index_in_step_is_compared_with_what_changed(
    in_step: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it looked at all images")

    monkeypatch.setattr(updating, "live_ids", refuse)
    version = in_step.folder.read_manifest().version
    assert settle(in_step) == "unchanged"
    assert in_step.folder.read_manifest().version == version
    in_step.mark([3, 5], missing=True)
    new = in_step.add(random_rows(4, in_step.dim, seed=1))
    assert settle(in_step) == "updated"
    assert answers(in_step) == set(range(1, 65)) - {3, 5}
    in_step.mark([3], missing=False)
    in_step.mark(new[:1], missing=True)
    assert settle(in_step) == "updated"
    assert answers(in_step) == set(range(1, 65)) - {5, new[0]} == set(in_step.live())


@pytest.mark.parametrize("lost", ["an older registry", "an update that was not noted"])
def test_an_index_of_another_version_is_compared_with_all_images(in_step: VectorLibrary, lost: str) -> None:
    before = in_step.registry.connection.execute("SELECT * FROM in_step").fetchall()
    in_step.mark([3], missing=True)
    if lost == "an older registry":  # it knows nothing of the change, and of the version before it
        settle(in_step)
        in_step.mark([3], missing=False)
        in_step.registry.connection.execute("DELETE FROM touched")
        in_step.registry.connection.execute("UPDATE in_step SET version = ?", (before[0][1],))
    else:
        in_step.update()
    assert settle(in_step) == ("updated" if lost == "an older registry" else "unchanged")
    assert answers(in_step) == set(in_step.live())


def test_the_registry_is_flushed_before_a_pointer_moves(
    in_step: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a power cut may leave an index that is newer than the registry, which is built anew."""
    statements: list[str] = []
    move = IndexFolder.point_to

    def point_to(folder: IndexFolder, manifest: Any) -> None:
        flushed = [words for words in statements if "synchronous = " in words or words == "COMMIT"]
        assert flushed[-3:-1] == ["PRAGMA synchronous = FULL", "COMMIT"]
        move(folder, manifest)

    monkeypatch.setattr(IndexFolder, "point_to", point_to)
    in_step.add(random_rows(4, in_step.dim, seed=1))
    in_step.registry.connection.set_trace_callback(statements.append)
    in_step.update()
    in_step.registry.connection.set_trace_callback(None)
    assert "COMMIT" in statements


def test_what_is_read_is_kept_every_second_and_not_file_by_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    record = probes.record_probes

    def note(connection: sqlite3.Connection, probes: Sequence[Probe]) -> None:
        saved.append(len(probes))
        record(connection, probes)

    monkeypatch.setattr(probes, "record_probes", note)
    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        photos = Photos(tmp_path / "photos", registry)
        for number in range(5 * FILES_PER_PROBE):
            photos.write(f"{number:03}.jpg", content=b"%d" % number)
        monkeypatch.setattr("imgrec.storage.scan.SAVE_EVERY_S", 1e9)
        photos.scan()
    assert saved == [5 * FILES_PER_PROBE]


def test_a_walk_may_come_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of paths only saves time; a file system may list a file twice, too."""
    monkeypatch.setattr(comparison, "_ROWS", 3)
    names: list[str | bytes] = [
        "a b.png",
        "a.png",
        "a/c.png",
        "a-/d.png",
        "B.png",
        "\N{CAMERA}.png",
        b"\xff.png",
        b"\xe9/x.png",
    ]
    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        photos = Photos(tmp_path / "photos", registry)
        for number, name in enumerate(names):
            photos.write(name, content=number)
        photos.scan()
        photos.write("a.png", content=99)
        photos.write("new.png", content=100)
        photos.remove("B.png", b"\xff.png")
        wait_for_another_ctime(tmp_path)
        files = list(walk_photos(photos.root, WalkReport()))
        assert [file.path for file in files] == sorted(file.path for file in files)
        gone = {photos.ids()["B.png"], max(photos.ids().values())}
        for seed in range(8):
            mixed = [files[i] for i in np.random.default_rng(seed).permutation([*range(len(files)), 0])]
            compared = compare(
                registry.connection, one_root(photos.root), [("", mixed if seed else files)], WalkReport()
            )
            rows = registry.connection.execute("SELECT path FROM seen WHERE state IS NULL ORDER BY path").fetchall()
            assert rows == [("a.png",), ("new.png",)]
            found = {row[0] for row in registry.connection.execute("SELECT id FROM gone")}
            assert found == gone, mixed
            assert (compared.to_read, compared.gone, compared.present) == (2, 2, len(names))
