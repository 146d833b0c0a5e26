"""Users without a home or a name, warnings as errors, terminals of few letters: the answer, or one line, at once."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import Imgrec

IMGREC = Path(sys.executable).with_name("imgrec")
USER = 12_345  # that no passwd file names
# It may read what root may, so that tests also run where Python is in root's home.
AS_NOBODY = (
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=+dac_read_search",
    "--ambient-caps=+dac_read_search", "--bounding-set=-all,+dac_read_search",
)  # fmt: skip

Command = Callable[..., "subprocess.CompletedProcess[str]"]


def run(*command: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    bare = {"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1", **environment}
    return subprocess.run([*map(str, command)], env=bare, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def as_nobody() -> Command:
    """Run a command as a user who is in no file and may write nothing of others."""
    if os.geteuid() or shutil.which("setpriv") is None:
        pytest.skip("only root becomes another user, by setpriv")

    def command(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        return run(*AS_NOBODY, IMGREC, *arguments, **environment)

    return command


@pytest.fixture
def made(imgrec: Imgrec, photos: Path, library: Path) -> Path:
    """A library with photos of odd names."""
    (photos / "é\N{CAMERA}.png").write_bytes(next(photos.iterdir()).read_bytes())
    assert imgrec("ingest", photos, "--library", library).code == 0
    return library


@pytest.mark.parametrize("home", [{}, {"HOME": "/"}, {"HOME": "/nonexistent"}], ids=str)
def test_a_user_without_a_home_searches_the_library_of_another(
    as_nobody: Command, made: Path, home: dict[str, str]
) -> None:
    done = as_nobody("search", "id:1", "--library", made, "--json", **home)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["hits"][0]["id"] == 1


def test_a_user_without_a_home_is_told_where_prefect_would_be(as_nobody: Command, photos: Path, library: Path) -> None:
    done = as_nobody("ingest", photos, "--library", library, PYTHONWARNINGS="error")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("imgrec: error: Prefect's database in /.prefect cannot be written (Permission denied): ")
    assert line.endswith("or set PREFECT_HOME to a folder elsewhere")
    assert not library.exists()


def test_a_user_without_a_home_ingests(
    as_nobody: Command, photos: Path, tmp_path: Path, server_environment: dict[str, str]
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    os.chown(mine, USER, USER)
    environment = {"PREFECT_API_URL": server_environment["PREFECT_API_URL"], "PREFECT_HOME": str(mine / "prefect")}
    done = as_nobody(
        "ingest",
        photos,
        "--library",
        mine / "library",
        "--modality",
        "color",
        "--json",
        TMPDIR=str(mine),
        **environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["images"]["ok"] == 6


def test_warnings_of_dependencies_are_no_errors(
    photos: Path, library: Path, server_environment: dict[str, str]
) -> None:
    done = run(IMGREC, "ingest", photos, "--library", library, "--json", **server_environment, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["images"]["ok"] == 6


def test_a_terminal_without_the_letters_of_a_name_shows_their_numbers(made: Path) -> None:
    done = run(IMGREC, "search", "id:1", "--library", made, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "  \\xe9\\U0001f4f7.png\n" in done.stdout
    assert "\n -----" in done.stdout

    done = run(IMGREC, "search", "id:1", "--library", made, "--json", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "é\N{CAMERA}.png" in [hit["path"] for hit in json.loads(done.stdout)["hits"]]
