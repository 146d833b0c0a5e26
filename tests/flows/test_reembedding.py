"""A change of mind: the old vectors serve until the new ones are complete, then every index changes at once."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from imgrec.search import Searcher
from imgrec.search.indexes.layout import IndexFolder, Manifest
from imgrec.storage.library import open_library
from imgrec.storage.shards import list_shards
from tests.flows.conftest import CHUNK, MANY, Imgrec
from tests.flows.test_processes import IMGREC, _wait
from tests.plain import build, embed, ingest, scan

INDEXES = ("color", "sift", "combo_color_sift")


def manifests(library: Path) -> dict[str, Manifest]:
    return {name: IndexFolder(library / "indexes", name).read_manifest() for name in INDEXES}


def decoded_at(library: Path) -> list[int]:
    return [manifest.vector_settings["decode_min_side"] for manifest in manifests(library).values()]


def answers(library: Path, picture: Path) -> list[tuple[str, Any]]:
    """What every index answers, to a picture and to an id, with the scores of every modality."""
    found = []
    for index in INDEXES:
        with Searcher(library, index) as searcher:
            answered = searcher.search([picture, "id:2"], top_k=4, all_scores=True)
        found += [(answer.index, [(hit.id, hit.scores) for hit in answer.hits]) for answer in answered]
    return found


@pytest.fixture
def two_modalities(photos: Path, library: Path) -> Path:
    ingest(photos, library, ["color", "sift"], decode_min_side=256)
    return library


def change_of_mind(library: Path) -> None:
    """What a re-embedding that is killed at once leaves."""
    home = open_library(library)
    home.with_vector_settings({**home.vector_settings, "bins": [4, 4, 4], "decode_min_side": 128})


def test_old_vectors_serve_until_all_new_ones_are_there(two_modalities: Path, photos: Path, imgrec: Imgrec) -> None:
    before, served = answers(two_modalities, photos / "cell.png"), manifests(two_modalities)
    change_of_mind(two_modalities)
    for modality in (None, "color"):  # nothing is embedded yet, then one modality of two
        if modality is not None:
            embed(two_modalities, [modality])
        ran = imgrec("index", "build", "--library", two_modalities)
        assert "6 photos wait for vectors of the new settings, so the old ones go on serving" in ran.err
        assert imgrec("doctor", "--library", two_modalities, "--all").code == 0
        assert imgrec("gc", "--library", two_modalities, "--keep-hours", 0, "--json").lines[0]["garbage"] == []
        assert manifests(two_modalities) == served
        assert answers(two_modalities, photos / "cell.png") == before
        (row,) = imgrec("sql", "select len(vector) n from color limit 1", "--library", two_modalities, "--json").lines
        assert row == {"n": 512}

    report = ingest(library=two_modalities)  # an ordinary ingest goes on

    assert report.embedded is not None
    assert report.embedded.images == 6
    assert decoded_at(two_modalities) == [128] * 3
    after = answers(two_modalities, photos / "cell.png")
    assert all(None not in scores.values() for _, hits in after for _, scores in hits)
    assert after != before
    (row,) = imgrec("sql", "select len(vector) n from color limit 1", "--library", two_modalities, "--json").lines
    assert row == {"n": 64}


def test_old_indexes_follow_the_photos_while_new_vectors_are_awaited(two_modalities: Path, photos: Path) -> None:
    change_of_mind(two_modalities)
    (photos / "cell.png").unlink()
    scan(library=two_modalities)
    build(two_modalities)
    assert decoded_at(two_modalities) == [256] * 3
    with Searcher(two_modalities) as searcher:
        (answer,) = searcher.search(["id:1"])
    assert len(answer.hits) == 5
    assert "cell.png" not in {hit.path for hit in answer.hits}


def test_no_index_changes_before_the_last_one_is_built(two_modalities: Path) -> None:
    obstacle = two_modalities / "indexes" / "combo_color_sift" / "segments"
    kept = obstacle.rename(obstacle.with_name("kept"))
    obstacle.touch()
    change_of_mind(two_modalities)
    with pytest.raises(NotADirectoryError):
        ingest(library=two_modalities)
    assert decoded_at(two_modalities) == [256] * 3

    obstacle.unlink()
    kept.rename(obstacle)
    ingest(library=two_modalities)

    assert decoded_at(two_modalities) == [128] * 3
    folders = [IndexFolder(two_modalities / "indexes", name) for name in INDEXES]
    written = [folder.manifest_path(folder.read_manifest().version).stat().st_mtime_ns for folder in folders]
    assert max(written) < min(folder.pointer.stat().st_mtime_ns for folder in folders)
    for folder in folders:  # what the first try had built is gone
        versions = {path.name for path in (folder.root / "versions").iterdir()}
        named = {entry.name for version in versions for entry in folder.read_manifest(version).segments}
        assert {path.name for path in (folder.root / "segments").iterdir()} == named


def test_indexes_whose_own_vectors_stay_take_the_new_settings_too(two_modalities: Path) -> None:
    """Else they would go on asking for the scores and the model of an old codebook."""
    home = open_library(two_modalities)
    segments = manifests(two_modalities)["color"].segments
    home.with_vector_settings({**home.vector_settings, "sift_codebook": "default", "bins": [8, 8, 8], "note": 1})
    report = ingest(library=two_modalities)
    assert report.embedded is not None
    assert report.embedded.images == 0
    assert [manifest.vector_settings.get("note") for manifest in manifests(two_modalities).values()] == [1] * 3
    assert manifests(two_modalities)["color"].segments == segments


def test_a_killed_reembedding_serves_the_old_vectors_and_is_completed(
    many_photos: Path, library: Path, server_environment: dict[str, str]
) -> None:
    ingest(many_photos, library, chunk_size=CHUNK, workers=2)
    before = {path.parent.name for path in list_shards(library / "shards")}
    options = ["--library", str(library), "--bins", "4x4x4", "--chunk-size", str(CHUNK)]
    with Searcher(library) as searcher:
        (answer,) = searcher.search(["id:7"])
        running = subprocess.Popen(
            [IMGREC, "reembed", *options],
            env=server_environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

        def some_are_new() -> bool:
            assert searcher.search(["id:7"])[0].hits == answer.hits
            return len(list(list_shards(library / "shards"))) >= MANY // CHUNK + 3

        _wait(some_are_new, 90)
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
        build(library)
        assert searcher.search(["id:7"])[0].hits == answer.hits
        new = [path for path in list_shards(library / "shards") if path.parent.name not in before]
        assert 3 <= len(new) < MANY // CHUNK

        done = subprocess.run(
            [IMGREC, "ingest", "--library", library, "--json"],
            env=server_environment,
            capture_output=True,
            text=True,
            check=True,
        )

        assert json.loads(done.stdout)["embedded"] == MANY - CHUNK * len(new)
        assert searcher.search(["id:7"])[0].hits != answer.hits
        assert len(searcher.search(["id:7"], top_k=MANY)[0].hits) == MANY
