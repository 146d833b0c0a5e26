"""Failed images are tried again: by themselves where what failed them may be over, else when somebody asks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imgrec.storage.registry.registry import Registry
from tests.flows import hostile
from tests.flows.album import Album, check
from tests.flows.conftest import Imgrec
from tests.flows.launcher import Kill, Launcher, wait_until_gone

Ingest = Callable[..., Any]


def failures(library: Path) -> dict[str, str]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        return {row.path: row.status for row in registry.failures()}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    return tmp_path


@pytest.fixture
def run(launcher: Launcher, home: Path) -> Ingest:
    """Run a command on home/library in processes that load the hostile decoder; return its report."""
    environment = {**hostile.install(home / "plugin"), "IMGREC_WORKERS": "2", "IMGREC_RETRIES": "0"}
    library = home / "library"
    once = {"imgrec.storage.registry.failures.MEMORY_RETRIES": 1}

    def run(*arguments: object) -> Any:
        ended = launcher.run(
            *arguments, "--library", library, "--json", library=library, environment=environment, constants=once
        )
        wait_until_gone(ended.pid)
        assert ended.code == 0, ended
        return ended.report

    return run


def test_a_bomb_is_taken_when_the_limit_grows(imgrec: Imgrec, photos: Path, library: Path) -> None:
    Image.new("RGB", (2_000, 1_000), "teal").save(photos / "large.png")

    def ingest(*more: object) -> Any:
        ran = imgrec("ingest", photos, "--library", library, "--json", *more)
        assert (ran.code, ran.err) == (0, "")
        return ran.lines[0]

    assert ingest("--max-megapixels", 1)["failures"] == {"too_large": 1}
    (told,) = imgrec("failures", "--library", library, "--json").lines
    assert told["remedy"] == "`imgrec ingest --max-megapixels N` takes it, and those like it"
    assert "too_large: `imgrec ingest --max-megapixels N` takes it" in imgrec("failures", "--library", library).out
    again = ingest("--max-megapixels", 0.5)
    assert (again["retried"], again["embedded"], again["failures"]) == (0, 0, {"too_large": 1})
    assert ingest("--dry-run", "--max-megapixels", 2)["retried"] == 1
    grown = ingest("--max-megapixels", 1.5)  # and still not enough
    assert (grown["retried"], grown["embedded"], grown["failures"]) == (1, 0, {"too_large": 1})

    taken = ingest("--max-megapixels", 2)

    assert (taken["retried"], taken["embedded"], taken["failures"]) == (1, 1, {})
    (answer,) = imgrec("search", photos / "large.png", "--library", library, "--json").lines
    assert answer["hits"][0]["path"] == "large.png"
    after = ingest("--max-megapixels", 1)
    assert (after["retried"], after["embedded"], after["failures"]) == (0, 0, {})


def test_want_of_memory_is_tried_again_but_not_for_ever(run: Ingest, home: Path) -> None:
    hostile.write(home / "photos", "pixels", "nothing", 1)
    names = [hostile.write(home / "photos", *how, 1) for how in (("header", "no_memory"), ("pixels", "killed"))]
    reports = [run("ingest", home / "photos"), run("ingest")]
    hostile.deeds(home)
    reports.append(run("ingest"))
    assert not hostile.deeds(home)
    reports.append(run("ingest", "--retry-failed"))
    assert [report["retried"] for report in reports] == [0, 2, 0, 2]
    assert {deed.split(" ", 1)[1] for deed in hostile.deeds(home)} == {"header no_memory 1", "pixels killed 1"}
    assert failures(home / "library") == dict.fromkeys(names, "out_of_memory")


def test_a_decoder_that_was_slow_gets_the_time_that_it_is_given(run: Ingest, home: Path) -> None:
    slow = {hostile.write(home / "photos", when, "slow", 1) for when in ("header", "pixels")}
    hostile.write(home / "photos", "pixels", "nothing", 1)
    assert run("ingest", home / "photos", "--decode-timeout-s", 0.5)["failures"] == {"decoder_hangs": 2}
    assert run("ingest", "--decode-timeout-s", 0.5)["retried"] == 0
    more = run("ingest", "--decode-timeout-s", 30)
    assert (more["retried"], more["failures"]) == (2, {})
    with Registry.open_for_reading(home / "library" / "registry.sqlite") as registry:
        rows = registry.connection.execute("SELECT path, width FROM images JOIN color_vectors ON image_id = id")
        assert {path: width for path, width in rows if path in slow} == dict.fromkeys(slow, 8)


@pytest.mark.parametrize("step", ["scan", "embed"])
def test_steps_try_again_too(run: Ingest, home: Path, step: str) -> None:
    """After an update of the decoder, say: what crashed it does no longer."""
    names = {hostile.write(home / "photos", when, "segfault", 1) for when in ("header", "pixels")}
    hostile.write(home / "photos", "pixels", "nothing", 1)
    assert run("ingest", home / "photos")["failures"] == {"crashed_decoder": 2}
    (home / "plugin" / "sitecustomize.py").write_text(hostile.PLUGIN.replace("ctypes.string_at(0)", "None"))
    assert run(step, "--retry-failed")["retried"] == len(names)
    other = run("embed" if step == "scan" else "scan")  # the order does not count
    assert (other["retried"], other["images"]) == (0, {"ok": 3, "failed": 0, "missing": 0})
    with Registry.open_for_reading(home / "library" / "registry.sqlite") as registry:
        rows = registry.connection.execute("SELECT path, width FROM images JOIN color_vectors ON image_id = id")
        assert {path: width for path, width in rows if path in names} == dict.fromkeys(names, 8)


def test_a_retry_that_is_killed_loses_nothing(launcher: Launcher, tmp_path: Path) -> None:
    album, library = Album(tmp_path / "photos", seed=3, photos=8), tmp_path / "library"
    ids: dict[int, bytes] = {}
    command = ["ingest", album.root, "--library", library, "--modality", "color", "--modality", "sift", "--json"]

    def retry(kill: Kill | None = None) -> Any:
        ended = launcher.run(*command, "--chunk-size", 3, "--retry-failed", library=library, kill=kill)
        wait_until_gone(ended.pid)
        return ended

    assert launcher.run(*command, library=library).code == 0
    steps = len(retry().steps)
    for step in (steps // 10, steps // 4, steps // 2):
        retry(Kill(step, 0, "group"))
        ended = retry()
        assert (ended.code, json.loads(ended.out)["failures"]) == (0, {"corrupt": 1, "not_an_image": 1}), ended
        check(library, album, ids)
