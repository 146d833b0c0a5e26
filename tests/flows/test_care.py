"""gc, doctor and backup, as a user types them and as a schedule runs them."""

import shutil
from pathlib import Path

import pytest

from imgrec.flows import train_sift
from imgrec.flows.collect_garbage import collect_garbage
from imgrec.storage.shards import list_shards
from tests.flows.conftest import Imgrec
from tests.plain import ingest


def test_after_a_reembedding_the_old_vectors_can_go(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    assert imgrec("gc", "--library", library).out == "nothing: the library needs all that it has\n"
    imgrec("reembed", "--library", library, "--bins", "4x4x4")
    (answer,) = imgrec("search", "id:1", "--library", library, "--json").lines

    assert imgrec("gc", "--library", library, "--json").lines[0]["garbage"] == []  # kept for a day
    (listed,) = imgrec("gc", "--library", library, "--keep-hours", 0, "--json").lines
    assert set(listed) == {"library", "deleted", "bytes", "garbage"}
    assert {item["kind"] for item in listed["garbage"]} == {"vectors", "shards", "index version", "index segment"}
    table = imgrec("gc", "--library", library, "--keep-hours", 0).out
    assert "`imgrec gc --delete` frees them" in table
    assert len({path.parent for path in list_shards(library / "shards")}) == 2
    (deleted,) = imgrec("gc", "--library", library, "--keep-hours", 0, "--delete", "--json").lines

    assert (deleted["deleted"], deleted["bytes"]) == (True, listed["bytes"])
    assert len({path.parent for path in list_shards(library / "shards")}) == 1
    assert imgrec("search", "id:1", "--library", library, "--json").lines == [answer]
    assert imgrec("doctor", "--library", library, "--all").code == 0


@pytest.mark.usefixtures("prefect_server")
def test_a_trained_codebook_goes_when_the_packaged_one_is_back(
    imgrec: Imgrec, small_pictures: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_sift, "MIN_PHOTOS", 15)
    imgrec("ingest", small_pictures, "--library", library, "--modality", "color", "--modality", "sift")
    imgrec("train", "sift", "--library", library)
    assert imgrec("gc", "--library", library, "--keep-hours", 0, "--json").lines[0]["garbage"] == []
    imgrec("ingest", "--library", library)
    (listed,) = imgrec("gc", "--library", library, "--keep-hours", 0, "--delete", "--json").lines
    assert [item["kind"] for item in listed["garbage"]].count("vectors") == 1
    assert len(list((library / "models").iterdir())) == 1
    for index in ("color", "sift", "combo_color_sift"):  # no index asks for the old codebook
        ran = imgrec(
            "search", small_pictures / "coffee.png", "--library", library, "--index", index, "--scores", "all", "--json"
        )
        assert None not in ran.lines[0]["hits"][0]["scores"].values()

    (back,) = imgrec("reembed", "--library", library, "--sift-codebook", "default", "--json").lines
    assert back["embedded"] == 20
    (listed,) = imgrec("gc", "--library", library, "--keep-hours", 0, "--delete", "--json").lines
    assert [item["kind"] for item in listed["garbage"]].count("model") == 1
    assert imgrec("doctor", "--library", library, "--all").code == 0


def test_the_doctor_says_what_is_wrong_and_mends_it(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    healthy = imgrec("doctor", "--library", library)
    assert (healthy.code, healthy.out) == (0, f"{library}: nothing is wrong\n")
    (shard,) = list_shards(library / "shards")
    shard.unlink()

    ran = imgrec("doctor", "--library", library)
    assert (ran.code, ran.err) == (1, "")
    assert f"found  shards.missing: shard {shard} is gone" in ran.out
    assert "`imgrec doctor --fix` forgets it" in ran.out
    ran = imgrec("doctor", "--library", library, "--json")
    finding = ran.lines[0]["findings"][0]
    assert (ran.code, ran.lines[0]["remaining"]) == (1, 2)
    assert set(finding) == {"check", "what", "remedy", "fixable", "fixed"}
    assert (finding["fixable"], finding["fixed"]) == (True, False)

    ran = imgrec("doctor", "--library", library, "--fix", "--json")
    assert (ran.code, ran.lines[0]["remaining"]) == (0, 0)
    assert all(finding["fixed"] for finding in ran.lines[0]["findings"])
    assert shard.exists()
    assert imgrec("doctor", "--library", library).code == 0
    (report,) = imgrec("ingest", "--library", library, "--json").lines
    assert (report["embedded"], report["indexes"]["color"]["action"]) == (0, "unchanged")


def test_the_doctor_reads_settings_that_nothing_else_can(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    (library / "imgrec.toml").write_text("hnsw_m = many\n")
    ran = imgrec("doctor", "--library", library, "--json")
    assert ran.code == 1
    assert [(finding["check"], finding["fixable"]) for finding in ran.lines[0]["findings"]] == [("settings", False)]
    assert imgrec("doctor", "--library", library.with_name("none")).code == 1


def test_a_backup_is_searched_and_ingested_into(imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path) -> None:
    ingest(photos, library, ["color", "sift"])
    target = tmp_path / "backup"
    (made,) = imgrec("backup", target, "--library", library, "--json").lines
    assert set(made) == {"library", "target", "verified", "copied", "bytes", "kept"}
    assert (made["kept"], made["verified"]) == (0, True)
    again = imgrec("backup", target, "--library", library)
    assert "0 files (0 B) copied beside the registry" in again.out
    queries = ("search", "id:2", photos / "cell.png", "--json", "--library")
    assert imgrec(*queries, target).lines == imgrec(*queries, library).lines

    (photos / "new.png").write_bytes((photos / "cell.png").read_bytes() + b"\0")
    report = ingest(library=target)
    assert report.embedded is not None
    assert (report.embedded.images, report.images["ok"]) == (1, 7)
    refused = imgrec("backup", target, "--library", library)
    assert (refused.code, "was used as a library" in refused.err) == (1, True)


def test_the_registry_of_yesterday_takes_up_what_came_since(
    imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path
) -> None:
    """Two photos came one by one; the restored registry meets them together, and gives their ids the other way."""
    ingest(photos, library, ["color", "sift"])
    imgrec("backup", tmp_path / "backup", "--library", library)
    for name, content in (("z.png", "cell.png"), ("a.png", "chelsea.png")):
        (photos / name).write_bytes((photos / content).read_bytes() + b"\0")
        ingest(library=library)
    for path in library.glob("registry.sqlite*"):
        path.unlink()
    shutil.copy(tmp_path / "backup" / "registry.sqlite", library)

    report = ingest(library=library)

    assert report.embedded is not None
    assert (report.embedded.images, report.images["ok"]) == (0, 8)
    assert imgrec("doctor", "--library", library, "--all").code == 0
    for name in ("z.png", "a.png"):
        (answer,) = imgrec("search", photos / name, "--library", library, "--json").lines
        assert name in {hit["path"] for hit in answer["hits"][:2]}


@pytest.mark.usefixtures("prefect_server")
def test_gc_on_a_schedule(imgrec: Imgrec, photos: Path, library: Path) -> None:
    imgrec("ingest", photos, "--library", library)
    imgrec("reembed", "--library", library, "--bins", "4x4x4")
    listed = collect_garbage(library, keep_hours=0)
    assert (listed["deleted"], listed["bytes"] > 0) == (False, True)
    assert collect_garbage(library, delete=True, keep_hours=0) == {**listed, "deleted": True}
    assert collect_garbage(library, keep_hours=0)["bytes"] == 0
