"""An index holds exactly the live images, whatever happened to them."""

import logging
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.indexes import adding, segment
from imgrec.search.indexes import updating as index_module
from imgrec.search.indexes.hits import NO_ID
from imgrec.search.indexes.layout import IndexFolder, list_indexes
from imgrec.search.indexes.opening import open_reader
from imgrec.search.indexes.publishing import reserve_indexed_ids
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.source import from_shards
from imgrec.search.indexes.writing import write_faiss
from imgrec.storage.registry.index_rows import mirrored_segments
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards
from tests.search.libraries import PARAMETERS, VectorLibrary, assert_exact, random_rows
from tests.storage.pictures import wait_for_another_ctime


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat a few dozen vectors like many: a segment is full with six."""
    monkeypatch.setattr(adding, "FULL_ROWS", dict.fromkeys(adding.FULL_ROWS, 6))


def shape(folder: IndexFolder) -> list[tuple[str, int, int]]:
    return [(entry.kind, entry.vectors, entry.tombstones) for entry in folder.read_manifest().segments]


# Building


def test_a_library_without_vectors_has_no_index(vectors: VectorLibrary) -> None:
    assert vectors.update_or_nothing() is None
    assert list_indexes(vectors.root / "indexes") == []
    with pytest.raises(IndexNotFoundError, match=r"no index 'color' in .*: `imgrec ingest` builds it"):
        IndexReader(vectors.folder)


def test_the_first_update_builds_a_graph(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(50, 8), in_shard=True)
    report = vectors.update()
    assert (report.action, report.added, report.removed, report.recall) == ("built", 50, 0, 1.0)
    assert shape(vectors.folder) == [("graph", 50, 0)]
    assert report.bytes == sum(p.stat().st_size for p in (vectors.folder.root / "segments").rglob("*") if p.is_file())
    assert list_indexes(vectors.root / "indexes") == ["color"]
    assert_exact(vectors)


def test_nothing_is_published_when_nothing_changed(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(20, 8))
    version = vectors.update().manifest.version
    report = vectors.update()
    assert (report.action, report.added, report.removed) == ("unchanged", 0, 0)
    assert vectors.folder.current_version() == version


def test_a_few_go_into_a_copy_of_the_last_segment(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(20, 8))
    (first,) = vectors.update().manifest.segments
    vectors.add(np.concatenate([random_rows(1, 8, seed=1), random_rows(20, 8)[3:4]]))
    vectors.mark(ids[:2], missing=True)
    report = vectors.update()
    assert (report.action, report.added, report.removed) == ("updated", 2, 2)
    assert shape(vectors.folder) == [("graph", 22, 2)]
    assert report.manifest.segments[0].name != first.name
    opened = IndexReader(vectors.folder).segments[0]
    assert opened.opened.rows == 21  # the copy of a picture shares its row
    assert_exact(vectors)


def test_a_rebuild_is_called_one_even_if_recall_is_not_measured(vectors: VectorLibrary) -> None:
    parameters = replace(PARAMETERS, recall_sample=0)
    vectors.add(random_rows(20, 8))
    assert vectors.update(parameters).action == "built"
    vectors.add(random_rows(21, 8, seed=1))
    report = vectors.update(parameters)
    assert (report.action, report.recall) == ("built", None)


def test_other_graph_parameters_build_anew_and_another_ef_search_does_not(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(20, 8))
    first = vectors.update()
    other = vectors.update(replace(PARAMETERS, ef_search=128))
    assert other.manifest.segments == first.manifest.segments
    assert other.manifest.parameters["ef_search"] == 128
    rebuilt = vectors.update(replace(PARAMETERS, hnsw_m=8, ef_search=128))
    assert rebuilt.action == "built"
    assert rebuilt.manifest.segments != first.manifest.segments
    assert rebuilt.manifest.parameters == {**PARAMETERS.kept, "hnsw_m": 8, "ef_search": 128}
    tuned = vectors.update(replace(PARAMETERS, hnsw_m=8, ef_search=None))
    assert (tuned.action, tuned.manifest.ef_search) == ("built", 16)


def test_another_fingerprint_builds_anew(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(20, 8))
    vectors.update()
    vectors.registry.register_fingerprint("e" * 16, "color", 3, {})
    rows = random_rows(5, 3)
    vectors.registry.connection.executemany(
        "INSERT INTO color_vectors VALUES (?, ?, ?)", [(i + 1, "e" * 16, row.tobytes()) for i, row in enumerate(rows)]
    )
    member = replace(vectors.member, fingerprint="e" * 16, dim=3)
    report = index_module.update_index(
        vectors.registry, vectors.shards_dir, vectors.folder, (member,), {"bins": 1}, PARAMETERS
    )
    assert report is not None
    assert (report.manifest.dim, report.manifest.live, report.manifest.vector_settings) == (3, 5, {"bins": 1})
    _, ids = IndexReader(vectors.folder).search(rows, 1, 64)
    assert ids[:, 0].tolist() == [1, 2, 3, 4, 5]


def test_the_batch_size_changes_memory_and_not_the_index(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(40, 8), in_shard=True)
    vectors.add(random_rows(30, 8, seed=1), in_shard=True)
    for batch_size in (1, 7, 1_000):
        shutil.rmtree(vectors.folder.root, ignore_errors=True)
        assert vectors.update(replace(PARAMETERS, index_batch_size=batch_size)).manifest.live == 70
        assert_exact(vectors)


# Adding and taking away


@pytest.mark.usefixtures("small_segments")
def test_an_add_becomes_a_small_segment(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    before = vectors.update().manifest.segments
    vectors.add(random_rows(5, 8, seed=1))
    report = vectors.update()
    assert (report.action, report.added, report.removed, report.recall) == ("updated", 5, 0, None)
    assert shape(vectors.folder) == [("graph", 30, 0), ("graph", 5, 0)]
    assert report.manifest.segments[0] == before[0]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_a_larger_add_becomes_a_segment_of_its_own(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    vectors.add(random_rows(7, 8, seed=1))
    vectors.update()
    assert shape(vectors.folder) == [("graph", 30, 0), ("graph", 7, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_deleted_images_become_tombstones_and_returned_ones_live_again(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(30, 8))
    vectors.update()
    segments = vectors.folder.read_manifest().segments
    vectors.mark(ids[::8], missing=True)
    report = vectors.update()
    assert (report.action, report.added, report.removed) == ("updated", 0, 4)
    assert shape(vectors.folder) == [("graph", 30, 4)]
    assert_exact(vectors)
    vectors.mark(ids[:9], missing=False)
    report = vectors.update()
    assert (report.added, report.removed) == (0, 0)
    assert shape(vectors.folder) == [("graph", 30, 2)]
    assert [entry.name for entry in vectors.folder.read_manifest().segments] == [entry.name for entry in segments]
    assert_exact(vectors)
    vectors.mark(ids, missing=False)
    vectors.update()
    assert shape(vectors.folder) == [("graph", 30, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_tombstones_survive_an_update_that_concerns_others(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(30, 8))
    vectors.update()
    vectors.mark(ids[:3], missing=True)
    vectors.update()
    vectors.add(random_rows(2, 8, seed=1))
    vectors.update()
    vectors.update(replace(PARAMETERS, ef_search=100))
    assert shape(vectors.folder) == [("graph", 30, 3), ("graph", 2, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_a_segment_without_a_live_row_goes(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    ids = vectors.add(random_rows(3, 8, seed=1))
    vectors.update()
    vectors.mark(ids, missing=True)
    vectors.update()
    assert shape(vectors.folder) == [("graph", 30, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_full_segments_of_a_size_are_merged(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(40, 8))
    vectors.update()
    shapes = []
    for number in range(1, 14):
        vectors.add(random_rows(2, 8, seed=number))
        assert vectors.update().action == "updated"
        shapes.append([rows for _, rows, _ in shape(vectors.folder)])
        assert_exact(vectors)
    assert shapes[:4] == [[40, 2], [40, 4], [40, 6], [40, 6, 2]]
    assert shapes[-2:] == [[40, 6, 6, 6, 6], [40, 24, 2]]


@pytest.mark.usefixtures("small_segments")
def test_what_is_merged_leaves_the_dead_behind(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(60, 8))
    vectors.update()
    ids = vectors.add(random_rows(6, 8, seed=1))
    vectors.update()
    vectors.mark(ids[:2], missing=True)
    for number in range(2, 6):
        vectors.add(random_rows(6, 8, seed=number))
        vectors.update()
    assert shape(vectors.folder) == [("graph", 60, 0), ("graph", 22, 0), ("graph", 6, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_small_ones_that_outgrow_the_large_one_are_built_into_one(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(8, 8))
    vectors.update()
    for number in range(1, 3):
        vectors.add(random_rows(4, 8, seed=number))
        vectors.update()
    assert shape(vectors.folder) == [("graph", 8, 0), ("graph", 4, 0), ("graph", 4, 0)]
    vectors.add(random_rows(1, 8, seed=9))
    assert vectors.update().action == "built"
    assert shape(vectors.folder) == [("graph", 17, 0)]


@pytest.mark.usefixtures("small_segments")
def test_too_many_tombstones_are_cleared(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(30, 8))
    vectors.update()
    vectors.mark(ids[:6], missing=True)
    assert vectors.update().action == "updated"
    vectors.mark(ids[:7], missing=True)
    assert vectors.update().action == "built"
    assert shape(vectors.folder) == [("graph", 23, 0)]
    assert_exact(vectors)


@pytest.mark.usefixtures("small_segments")
def test_an_add_as_large_as_the_rest_builds_anew(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(10, 8))
    vectors.update()
    vectors.add(random_rows(11, 8, seed=1))
    assert vectors.update().action == "built"
    assert shape(vectors.folder) == [("graph", 21, 0)]


def test_an_index_may_become_empty_and_full_again(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(10, 8))
    vectors.update()
    vectors.mark(ids, missing=True)
    assert vectors.update().removed == 10
    assert_exact(vectors)
    assert vectors.update().action == "unchanged"
    vectors.mark(ids, missing=False)
    vectors.update()
    assert_exact(vectors)


def test_many_exact_copies_hide_no_other_image(vectors: VectorLibrary) -> None:
    """Neighbours that are all the same leave a graph no way out of them, unless it is built for that."""
    rows = random_rows(40, 8)
    vectors.add(np.concatenate([rows[:20], np.repeat(rows[:1], 200, axis=0), rows[20:]]))
    vectors.update()
    _, ids = IndexReader(vectors.folder).search(rows[1:], 1, 64)
    assert ids[:, 0].tolist() == [*range(2, 21), *range(221, 241)]


def test_short_answers_end_in_nothing(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(2, 8))
    vectors.update()
    scores, ids = IndexReader(vectors.folder).search(random_rows(1, 8, seed=1), 5, 64)
    assert sorted(ids[0, :2]) == [1, 2]
    assert ids[0, 2:].tolist() == [NO_ID] * 3
    assert scores[0, 2:].tolist() == [-np.inf] * 3


# What SQL users see


@pytest.mark.usefixtures("small_segments")
def test_index_rows_say_which_image_is_where(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(20, 8))
    vectors.update()
    more = vectors.add(random_rows(3, 8, seed=1))
    vectors.update()
    graph, flat = vectors.folder.read_manifest().segments
    rows = vectors.registry.connection.execute(
        'SELECT segment, "offset", image_id FROM index_rows WHERE index_name = ? ORDER BY 3', ("color",)
    ).fetchall()
    assert [(segment, image_id) for segment, _, image_id in rows] == [
        *((graph.name, image_id) for image_id in ids),
        *((flat.name, image_id) for image_id in more),
    ]
    for name, offset, image_id in rows:
        assert np.load(vectors.folder.segment_dir(name) / "ids.npy")[offset] == image_id
    vectors.mark(ids[:10], missing=True)
    vectors.update()
    (segment,) = vectors.folder.read_manifest().segments
    assert mirrored_segments(vectors.registry, "color") == {segment.name}


# Publishing


@pytest.mark.usefixtures("small_segments")
def test_a_reader_goes_on_while_versions_are_published(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(30, 8))
    vectors.update()
    reader = IndexReader(vectors.folder)
    queries = random_rows(5, 8, seed=99)
    before = reader.search(queries, 5, 64)
    vectors.mark(ids[:3], missing=True)
    vectors.update()
    second = IndexReader(vectors.folder)
    after_delete = second.search(queries, 5, 64)
    vectors.mark(ids[:10], missing=True)
    vectors.update()
    vectors.mark(ids[:20], missing=True)
    vectors.update()
    for reader_, (scores, found) in ((reader, before), (second, after_delete)):
        again = reader_.search(queries, 5, 64)
        assert np.array_equal(again[0], scores)
        assert np.array_equal(again[1], found)


@pytest.mark.usefixtures("small_segments")
def test_two_versions_are_kept_and_only_their_segments(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(60, 8))
    for number in range(1, 7):
        vectors.update()
        vectors.add(random_rows(1, 8, seed=number))
    versions = sorted(path.name for path in (vectors.folder.root / "versions").iterdir())
    assert len(versions) == 2
    assert vectors.folder.current_version() in versions
    named = {entry.name for version in versions for entry in vectors.folder.read_manifest(version).segments}
    assert {path.name for path in (vectors.folder.root / "segments").iterdir()} == named


def test_an_update_that_died_half_way_is_cleared_by_the_next(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(20, 8))
    vectors.update()
    (vectors.folder.root / "versions" / "half").mkdir()
    (vectors.folder.root / "segments" / "half").mkdir()
    vectors.add(random_rows(1, 8, seed=1))
    vectors.update()
    assert not list(vectors.folder.root.rglob("half"))


def test_strangers_in_the_folder_stop_no_update(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(20, 8))
    vectors.update()
    for place in ("versions", "segments"):
        (vectors.folder.root / place / ".DS_Store").touch()
    vectors.add(random_rows(1, 8, seed=1))
    vectors.update()
    assert_exact(vectors)


# Damage


def files_of_current(folder: IndexFolder) -> dict[str, Path]:
    manifest = folder.read_manifest()
    segment = folder.segment_dir(manifest.segments[0].name)
    return {
        "pointer": folder.pointer,
        "manifest": folder.manifest_path(manifest.version),
        "tombstones": folder.version_dir(manifest.version) / f"{manifest.segments[0].name}.npy",
        "ids": segment / "ids.npy",
        "starts": segment / "starts.npy",
        "graph": segment / "graph.faiss",
        "rows": segment / "rows.faiss",
        "reduction": segment / "reduction.npy",
    }


def put_back(path: Path, data: bytes) -> None:
    """Into a new file: an old one that is mapped into memory must not change."""
    path.unlink()
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": lambda path: put_back(path, b""),
    "half": lambda path: put_back(path, path.read_bytes()[: path.stat().st_size // 2]),
    "zeros": lambda path: put_back(path, bytes(path.stat().st_size)),
    "noise": lambda path: put_back(path, b"\xff\xfe\x80" * 50),
}


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("file", ["pointer", "manifest", "tombstones", "ids", "graph", "rows"])
def test_a_damaged_index_is_built_anew(
    vectors: VectorLibrary, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    ids = vectors.add(random_rows(30, 8))
    vectors.update()
    vectors.mark(ids[:2], missing=True)
    vectors.update()
    damage(files_of_current(vectors.folder)[file])
    if file != "pointer":  # without it there is no index, and none to be damaged
        with pytest.raises(IndexDamagedError, match="`imgrec ingest` builds it anew"):
            IndexReader(vectors.folder)
    with caplog.at_level(logging.WARNING):
        assert vectors.update().action == "built"
    assert file == "pointer" or "builds it anew" in caplog.text
    assert_exact(vectors)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("file", ["pointer", "manifest", "ids", "graph", "rows", "reduction", "starts"])
def test_the_last_good_version_serves_until_the_next_ingest(
    vectors: VectorLibrary, file: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    ids = vectors.add(random_rows(30, 8))
    before = vectors.update().manifest
    vectors.add(random_rows(30, 8, seed=1))
    now = vectors.update().manifest  # a graph of its own
    damage(files_of_current(vectors.folder)[file])
    with caplog.at_level(logging.WARNING):
        reader = open_reader(vectors.folder)
    assert "serves until then" in caplog.text
    # Nothing is wrong with a version that the pointer no longer names.
    assert reader.manifest == (now if file == "pointer" else before)
    _, found = reader.search(vectors.live()[ids[0]][np.newaxis], 30, 64)
    assert set(ids[:1]) <= set(found[0].tolist()) <= set(vectors.live())
    vectors.update()
    assert_exact(vectors)
    caplog.clear()
    open_reader(vectors.folder)
    assert caplog.text == ""


def test_without_any_whole_version_there_is_an_error(vectors: VectorLibrary) -> None:
    with pytest.raises(IndexNotFoundError):
        open_reader(vectors.folder)
    vectors.add(random_rows(30, 8))
    vectors.update()
    files_of_current(vectors.folder)["graph"].unlink()
    with pytest.raises(IndexDamagedError, match="`imgrec ingest` builds it anew"):
        open_reader(vectors.folder)


@pytest.mark.parametrize("file", ["ids", "graph", "rows", "reduction", "starts"])
def test_a_flipped_bit_is_found_by_its_checksum(vectors: VectorLibrary, file: str) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    path = files_of_current(vectors.folder)[file]
    wait_for_another_ctime(vectors.root)
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-9] ^= 1
    put_back(path, bytes(data))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert vectors.update().action == "built"
    assert_exact(vectors)
    assert vectors.update().action == "unchanged"


def test_files_that_were_only_touched_are_verified_once(
    vectors: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    wait_for_another_ctime(vectors.root)
    for path in files_of_current(vectors.folder).values():
        if path.exists():
            path.touch()
    assert vectors.update().action == "unchanged"
    monkeypatch.setattr(segment, "_checksums", None)
    assert vectors.update().action == "unchanged"


@pytest.mark.parametrize("content", [b"", b"[]", b"{"])
def test_damaged_checksums_vouch_for_nothing(vectors: VectorLibrary, content: bytes) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    (files_of_current(vectors.folder)["ids"].parent / segment.CHECKSUMS).write_bytes(content)
    assert vectors.update().action == "built"


def test_an_update_killed_just_after_publishing_is_completed_by_the_next(
    vectors: VectorLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die_after_publishing(folder: IndexFolder) -> None:
        if folder.current_version() != before:
            raise KeyboardInterrupt

    vectors.add(random_rows(30, 8))
    vectors.update()
    for seed in (1, 2):
        before = vectors.folder.current_version()
        vectors.add(random_rows(30, 8, seed))
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(IndexFolder, "tidy", die_after_publishing)
            vectors.update()
    assert len(vectors.folder.versions()) == 3
    assert vectors.update().action == "unchanged"
    assert len(vectors.folder.versions()) == 2
    (entry,) = vectors.folder.read_manifest().segments
    assert mirrored_segments(vectors.registry, "color") == {entry.name}
    assert_exact(vectors)


def test_a_registry_of_yesterday_gives_no_indexed_id_to_another_image(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    yesterday = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    vectors.registry.connection.backup(yesterday)
    restored = VectorLibrary(vectors.root, Registry(yesterday), 8)
    vectors.add(random_rows(5, 8, seed=1))
    vectors.update()
    reserve_indexed_ids(restored.registry, vectors.root / "indexes")
    ids = restored.add(random_rows(5, 8, seed=2))
    assert min(ids) == 36
    restored.update()
    assert_exact(restored)
    yesterday.close()


def test_files_of_two_segments_do_not_fit_together(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    ids = files_of_current(vectors.folder)["ids"]
    ids.unlink()
    np.save(ids, np.arange(29))
    with pytest.raises(IndexDamagedError, match="30 rows and 29 ids instead of 30"):
        IndexReader(vectors.folder)


def test_an_index_of_a_newer_format_is_built_anew(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    path = files_of_current(vectors.folder)["manifest"]
    path.write_text(path.read_text().replace('"format_version": 2', '"format_version": 99'))
    assert vectors.update().action == "built"


def test_a_segment_that_finds_no_space_is_told_and_leaves_nothing(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(600, 8))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            vectors.update()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert vectors.folder.segments() == []
    vectors.update()
    assert_exact(vectors)


def test_the_last_bytes_of_an_index_that_find_no_space_are_told() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_faiss(Path("/dev/full"), faiss.IndexFlatIP(8))


def test_what_a_killed_update_left_is_gone_before_the_next_one_needs_the_space(vectors: VectorLibrary) -> None:
    vectors.add(random_rows(30, 8))
    vectors.update()
    (vectors.folder.root / "segments" / "half").mkdir()
    assert vectors.update().action == "unchanged"
    assert "half" not in vectors.folder.segments()


# Where vectors come from


def collect(vectors: VectorLibrary, wanted: list[int], batch_size: int = 4) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for ids, rows in from_shards(
        vectors.registry, vectors.shards_dir, vectors.member, np.array(wanted, np.int64), batch_size
    ):
        assert len(ids) == len(rows) <= batch_size + vectors.count()
        for image_id, row in zip(ids.tolist(), rows, strict=True):
            assert image_id not in found
            found[image_id] = row.tobytes()
    return found


def test_vectors_come_from_shards_even_without_blobs(vectors: VectorLibrary) -> None:
    rows = random_rows(10, 8)
    ids = vectors.add(rows, in_shard=True)
    vectors.registry.connection.execute("UPDATE color_vectors SET vector = x''")
    assert collect(vectors, ids[2:9]) == {i: rows[i - 1].tobytes() for i in ids[2:9]}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1")], ids=["gone", "damaged"])
def test_vectors_of_a_lost_shard_come_from_blobs(vectors: VectorLibrary, damage: Callable[[Path], None]) -> None:
    rows = random_rows(10, 8)
    ids = vectors.add(rows[:6], in_shard=True)
    damage(next(iter(list_shards(vectors.shards_dir))))
    ids += vectors.add(rows[6:], in_shard=True)
    assert collect(vectors, ids) == {i: rows[i - 1].tobytes() for i in ids}


def test_a_vector_in_several_shards_comes_once_and_its_copies_too(vectors: VectorLibrary) -> None:
    rows = random_rows(4, 8)
    ids = vectors.add(rows, in_shard=True)
    for name in ("a", "b"):
        path = next(iter(list_shards(vectors.shards_dir)))
        shutil.copy(path, path.with_name(f"{name}.parquet"))
    vectors.registry.connection.execute(
        "UPDATE images SET content_hash = (SELECT content_hash FROM images WHERE id = 1)"
    )
    assert collect(vectors, ids) == dict.fromkeys(ids, rows[0].tobytes())


def test_images_without_any_vector_are_left_out(vectors: VectorLibrary) -> None:
    ids = vectors.add(random_rows(3, 8))
    vectors.registry.connection.execute("DELETE FROM color_vectors WHERE image_id = 2")
    assert set(collect(vectors, ids)) == {1, 3}
