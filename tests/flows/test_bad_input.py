"""Bad input: a row with a clear reason, and everything else goes on."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imgrec.storage.machine.pool import TRIES_ALONE
from imgrec.storage.registry.registry import Registry
from tests.flows import hostile, nasty
from tests.flows.conftest import Imgrec

IMGREC = Path(sys.executable).with_name("imgrec")
CRASHES = ["segfault", "abort", "exit", "leave"]
STARVING = ["killed", "no_memory"]
HANGS = ["hang", "hang_with_the_gil"]
INNOCENT = 20

Ingest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ingest(tmp_path: Path) -> Ingest:
    """Run `imgrec ingest` on tmp_path/photos in processes that load the hostile decoder."""
    environment = {
        **os.environ,
        **hostile.install(tmp_path / "plugin"),
        "IMGREC_DECODE_TIMEOUT_S": "1",
        "IMGREC_WORKERS": "2",
        "IMGREC_RETRIES": "0",
    }
    (tmp_path / "photos").mkdir()

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [IMGREC, "ingest", tmp_path / "photos", "--library", tmp_path / "library", "--json", *arguments],
            env={**environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def failures(home: Path) -> dict[str, tuple[str, str | None]]:
    with Registry.open_for_reading(home / "library" / "registry.sqlite") as registry:
        return {row.path: (row.status, row.reason) for row in registry.failures()}


def test_a_decoder_that_crashes_or_hangs_costs_only_its_image(tmp_path: Path, ingest: Ingest) -> None:
    photos = tmp_path / "photos"
    for number in range(INNOCENT):
        hostile.write(photos, "pixels", "noise", number)
    crashing = [hostile.write(photos, when, deed, 1) for when in ("header", "pixels") for deed in CRASHES]
    hanging = [hostile.write(photos, when, deed, 1) for when in ("header", "pixels") for deed in HANGS]
    starving = [hostile.write(photos, when, deed, 1) for when in ("header", "pixels") for deed in STARVING]

    first = ingest()

    assert (first.returncode, first.stderr) == (0, "")
    report = json.loads(first.stdout)
    assert report["images"] == {"ok": INNOCENT, "failed": len(crashing + hanging + starving), "missing": 0}
    assert report["failures"] == {
        "crashed_decoder": len(crashing),
        "decoder_hangs": len(hanging),
        "out_of_memory": len(starving),
    }
    assert report["indexes"]["color"]["vectors"] == INNOCENT
    told = failures(tmp_path)
    assert {name: told[name][0] for name in crashing} == dict.fromkeys(crashing, "crashed_decoder")
    assert {name: told[name][0] for name in starving} == dict.fromkeys(starving, "out_of_memory")
    assert {told[name] for name in hanging} == {("decoder_hangs", "decoding takes longer than decode_timeout_s = 1")}
    ended = "decoding it fails each time: a worker process ended with"
    for deed, reason in {
        "segfault": f"{ended} SIGSEGV",
        "abort": f"{ended} SIGABRT",
        "exit": f"{ended} exit code 7",
        "killed": "there is not enough memory to decode it: a worker process ended with SIGKILL",
        "no_memory": "there is not enough memory to decode it",
    }.items():
        assert told[f"header-{deed}-1.bmp"][1] == told[f"pixels-{deed}-1.bmp"][1] == reason
    done = hostile.deeds(tmp_path)
    for name in crashing + hanging + starving:
        when, deed, _ = name.split("-")
        assert done[f"{when} {when} {deed} 1"] <= 1 + TRIES_ALONE, name
    for number in range(INNOCENT):
        assert 1 <= done[f"pixels pixels noise {number}"] <= 2
        assert 1 <= done[f"header pixels noise {number}"] <= 4  # at the scan, and at the decode

    for name in starving:  # what becomes of these: test_retrying.py
        (photos / name).unlink()
        del told[name]

    # Nothing of it is tried again: not at once, nor where it is touched, renamed or copied.
    for name in crashing + hanging:
        os.utime(photos / name, (0, 0))
    (photos / crashing[0]).rename(photos / "renamed.bmp")
    shutil.copy(photos / crashing[-1], photos / "copy.bmp")
    again = ingest()
    assert (again.returncode, again.stderr) == (0, "")
    assert not hostile.deeds(tmp_path)
    told_again = failures(tmp_path)
    assert told_again["renamed.bmp"] == told[crashing[0]]
    assert told_again["copy.bmp"] == told[crashing[-1]]
    assert len(told_again) == len(told) + 1

    # Shards know it too, where the registry is lost; of headers there is nothing in shards.
    for path in (tmp_path / "library").glob("registry.sqlite*"):
        path.unlink()
    for name in crashing + hanging:
        if name.startswith("header"):
            (photos / name).unlink(missing_ok=True)
    (photos / "renamed.bmp").unlink()
    assert ingest().returncode == 0
    done = hostile.deeds(tmp_path)
    assert failures(tmp_path) == {name: reason for name, reason in told_again.items() if (photos / name).exists()}
    assert not [deed for deed in done if deed.startswith("pixels")]


@pytest.mark.parametrize("when", ["header", "pixels"])
def test_where_everything_crashes_no_image_is_blamed(
    tmp_path: Path, ingest: Ingest, when: str, server_environment: dict[str, str]
) -> None:
    photos = tmp_path / "photos"
    hostile.write(photos, when, "abort", 1)
    hostile.write(photos, "pixels", "nothing", 1)

    server = {name: server_environment[name] for name in ("PREFECT_API_URL", "IMGREC_ORCHESTRATE")}
    broken = ingest(BREAK_ALL="1", **server)

    assert (broken.returncode, broken.stdout) == (1, "")
    assert broken.stderr.count("\n") == 1
    assert "a worker process ended with SIGABRT" in broken.stderr
    assert failures(tmp_path) == {}


def test_a_dry_run_survives_them_too(tmp_path: Path, ingest: Ingest) -> None:
    for deed in ("segfault", "hang", "nothing"):
        hostile.write(tmp_path / "photos", "pixels", deed, 1)
    estimate = ingest("--dry-run")
    assert (estimate.returncode, estimate.stderr) == (0, "")
    assert json.loads(estimate.stdout)["to_read"] == 3


# Files


def vectors(library: Path) -> dict[str, bytes]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        rows = registry.connection.execute(
            "SELECT path, vector FROM images JOIN color_vectors ON image_id = id WHERE status = 'ok'"
        )
        return dict(rows.fetchall())


def test_every_nasty_file_has_a_vector_or_a_reason(imgrec: Imgrec, tmp_path: Path, library: Path) -> None:
    photos = tmp_path / "photos"
    others = nasty.write(photos, tmp_path / "outside")
    usable = {*nasty.usable(), *(f"names\n/{name}" for name in nasty.NAMES)}
    unusable = {name: status for name, (_, status) in nasty.unusable().items()}

    ran = imgrec("ingest", photos, "--library", library, "--json", "--modality", "color", "--modality", "sift")

    (report,) = ran.lines
    assert (ran.code, ran.err) == (0, "")
    assert report["images"] == {"ok": len(usable), "failed": len(unusable), "missing": 0}
    assert report["other_files"] == others
    found = vectors(library)
    assert set(found) == usable
    for alike in nasty.ALIKE:
        assert len({found[name] for name in alike}) == 1, alike
    assert len({found[alike[0]] for alike in nasty.ALIKE}) == len(nasty.ALIKE)
    told = {row["path"]: row for row in imgrec("failures", "--library", library, "--json").lines}
    assert {name: row["status"] for name, row in told.items()} == unusable
    assert all(row["reason"].isprintable() and len(row["reason"]) > 10 for row in told.values())
    # libtiff's own words, which it prints and Pillow does not pass on.
    assert told["lzw-garbage.tif"]["reason"] == "cannot be decoded: the decoder gave up: Using code not yet in table."

    (again,) = imgrec("ingest", "--library", library, "--json").lines
    assert (again["new"], again["embedded"], again["images"]) == (0, 0, report["images"])
    assert imgrec("failures", "--library", library).code == 0  # as a table, whatever the names


@pytest.mark.slow
def test_every_file_of_another_folder_has_a_vector_or_a_reason(imgrec: Imgrec, tmp_path: Path, library: Path) -> None:
    """As of Pillow's own test suite, which its source distribution has: IMAGES=…/Tests make test-slow."""
    if "IMAGES" not in os.environ:
        pytest.skip("IMAGES names no folder of nasty files")
    photos = tmp_path / "photos"
    photos.mkdir()
    files = [path for path in sorted(Path(os.environ["IMAGES"]).rglob("*")) if path.is_file()]
    for number, path in enumerate(files):
        shutil.copy(path, photos / f"{number}.jpg")
    ran = imgrec("ingest", photos, "--library", library, "--json", "--modality", "color", "--modality", "sift")
    (report,) = ran.lines
    assert (ran.code, ran.err) == (0, "")
    assert report["images"]["ok"] + report["images"]["failed"] == len(files)
    told = imgrec("failures", "--library", library, "--json").lines
    assert all(row["reason"] and row["reason"].isprintable() for row in told)
    assert set(vectors(library)) | {row["path"] for row in told} == {path.name for path in photos.iterdir()}
