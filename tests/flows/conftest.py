"""A way to run commands as a user does: without Prefect, or through one server where a test is about it."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = "CRITICAL"  # read at the first import of Prefect

from benchmarks.pictures import real_pictures, write_pictures
from tests.flows.launcher import Launcher, open_launcher, stop_heartbeats

# Photos enough for an ingest to be stopped in the middle, and how many of them are a chunk there.
MANY, CHUNK = 160, 20


@dataclass(frozen=True)
class Ran:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Imgrec = Callable[..., Ran]


@pytest.fixture(scope="session", autouse=True)
def without_prefect() -> Iterator[None]:
    """Commands call their steps plainly, unless a test asks for `through_prefect`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGREC_ORCHESTRATE", "none")
        yield


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One server for all tests that ask for it: to start one takes many seconds."""
    from prefect.testing.utilities import prefect_test_harness

    stop_heartbeats()
    with prefect_test_harness(server_startup_timeout=300):
        yield


@pytest.fixture
def through_prefect(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands run as Prefect flows, as they do where nobody says otherwise."""
    monkeypatch.setenv("IMGREC_ORCHESTRATE", "prefect")


@pytest.fixture(scope="session", autouse=True)
def only_colour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New libraries compute colours unless a test asks for more: a model takes seconds to load. The store is empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMGREC_MODALITIES", "color")
        patch.setenv("IMGREC_MODELS_ROOT", str(tmp_path_factory.mktemp("no-models")))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One MLflow database for all libraries, but for tests that ask for `own_mlflow`: to make one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
        yield


@pytest.fixture
def own_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let libraries have an MLflow database of their own, as they have where nobody says otherwise."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI")


@pytest.fixture(scope="session")
def server_environment(prefect_server: None, one_mlflow: None) -> dict[str, str]:
    """The environment of processes that use the session's Prefect server."""
    from prefect.settings import get_current_settings

    named = {"PREFECT_API_URL": str(get_current_settings().api.url), "IMGREC_ORCHESTRATE": "prefect"}
    return {**os.environ, **named}


@pytest.fixture(scope="session")
def own_server_environment(one_mlflow: None) -> dict[str, str]:
    """The environment of processes that start a Prefect server of their own: its database is in PREFECT_HOME."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**own, "IMGREC_ORCHESTRATE": "prefect"}


@pytest.fixture(scope="session")
def launcher(tmp_path_factory: pytest.TempPathFactory, without_prefect: None, one_mlflow: None) -> Iterator[Launcher]:
    """Starts many `imgrec` processes cheaply."""
    with open_launcher(tmp_path_factory.mktemp("launcher") / "home", os.environ) as launcher:
        yield launcher


@pytest.fixture(scope="session")
def prefect_launcher(
    tmp_path_factory: pytest.TempPathFactory, server_environment: dict[str, str]
) -> Iterator[Launcher]:
    """Starts `imgrec` processes that use the session's Prefect server."""
    with open_launcher(tmp_path_factory.mktemp("launcher") / "home", server_environment) as launcher:
        yield launcher


@pytest.fixture
def imgrec(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Imgrec:
    """Run `imgrec ARGUMENTS…` in this process."""
    from imgrec.flows.cli.main import main

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["imgrec", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty real pictures; do not change it."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder, copies=False)
    return folder


@pytest.fixture(scope="session")
def small_pictures(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """The same twenty, small enough for SIFT to be quick; do not change it."""
    folder = tmp_path_factory.mktemp("small-pictures")
    for path in pictures.iterdir():
        with Image.open(path) as picture:
            picture.thumbnail((256, 256))
            picture.save(folder / path.name)
    return folder


@pytest.fixture(scope="session")
def many_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of `MANY` distinct pictures that take a while to decode; do not change it."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        Image.effect_noise((640, 480), 20 + number % 60).point(lambda v, n=number: (v + n) % 256).save(
            folder / f"{number:03}.jpg", quality=80
        )
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of six real pictures to change at will."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for picture in real_pictures()[:6]:
        (folder / picture.name).write_bytes(picture.read_bytes())
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"
