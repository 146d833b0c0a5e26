"""Whole `imgrec` processes: killed, interrupted, and with the network closed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import get_current_settings

IMGREC = Path(sys.executable).with_name("imgrec")

# Loaded by every Python process below: any connection beyond this machine is written down and refused.
CLOSED_NETWORK = """
import os, sys
def closed(event, arguments):
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = str(arguments[1][0])
    elif event == "socket.getaddrinfo":
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
    else:
        return
    if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "None", ""):
        with open(os.environ["CALLS"], "a") as calls:
            print(sys.argv, event, host, file=calls)
        raise OSError(f"the network is closed: {host}")
sys.addaudithook(closed)
"""


def _server_environment() -> dict[str, str]:
    """Let the process use the session's Prefect server."""
    return {**os.environ, "PREFECT_API_URL": str(get_current_settings().api.url)}


@pytest.fixture
def many_photos(tmp_path: Path) -> Path:
    """300 distinct pictures that take a while to decode."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        Image.effect_noise((640, 480), 20 + number % 60).point(lambda v, n=number: (v + n) % 256).save(
            folder / f"{number:03}.jpg", quality=80
        )
    return folder


def _start(photos: Path, library: Path, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [IMGREC, "ingest", photos, "--library", library, "--batch-size", "25", "--json"],
        env=_server_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _members(group: int) -> list[int]:
    """The living processes of a process group."""
    living = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended meanwhile
        if after_name[0] != "Z" and int(after_name[2]) == group:
            living.append(int(stat.parent.name))
    return living


def _shards(library: Path) -> int:
    return len([path for path in library.glob("shards/*/*/*.parquet") if not path.name.startswith(".")])


@pytest.mark.parametrize("shards", [0, 2, 6])
def test_a_killed_ingest_is_completed_by_the_next(many_photos: Path, library: Path, shards: int) -> None:
    killed = _start(many_photos, library)
    _wait(lambda: (library / "registry.sqlite").exists() and _shards(library) >= shards, 60)
    killed.kill()  # the driver only: its workers must notice by themselves
    killed.communicate()
    _wait(lambda: not _members(killed.pid), 10)
    kept = _shards(library)

    out, _ = _start(many_photos, library).communicate()

    report = json.loads(out)
    assert report["images"] == {"ok": 300, "failed": 0, "missing": 0}
    assert report["embedded"] == 300 - 25 * kept  # nothing that had reached a shard is computed again
    assert report["indexes"]["color"]["vectors"] == 300
    assert not list(library.rglob(".tmp-*"))


def test_ctrl_c_ends_with_130_and_the_next_run_goes_on(many_photos: Path, library: Path) -> None:
    running = _start(many_photos, library)
    _wait(lambda: _shards(library) >= 2, 60)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "the next `imgrec ingest` goes on" in err
    assert "Traceback" not in err
    _wait(lambda: not _members(running.pid), 10)

    out, _ = _start(many_photos, library).communicate()
    assert json.loads(out)["images"]["ok"] == 300


def test_a_server_that_does_not_answer_is_told(photos: Path, library: Path) -> None:
    environment = {**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    done = subprocess.run(
        [IMGREC, "ingest", photos, "--library", library], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "unset PREFECT_API_URL" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_nobody_is_called_even_with_a_server_of_its_own(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOSED_NETWORK)
    theirs = ("PREFECT_", "MLFLOW_", "IMGREC_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    environment |= {
        "PYTHONPATH": str(tmp_path),
        "CALLS": str(tmp_path / "calls"),
        "HOME": str(tmp_path),
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    environment.pop("DO_NOT_TRACK", None)
    proof = subprocess.run(
        [sys.executable, "-c", "import socket; socket.create_connection(('192.0.2.1', 80), 1)"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "the network is closed" in proof.stderr
    (tmp_path / "calls").unlink()

    library = tmp_path / "library"
    done = subprocess.run(
        [IMGREC, "ingest", pictures, "--library", library],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # a cold database, and nothing that a newcomer would take for a failure
    assert not (tmp_path / "calls").exists(), (tmp_path / "calls").read_text()
    assert (library / "mlflow.db").exists()


@pytest.mark.slow
def test_the_deployments_run_on_a_worker(photos: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]

    def prefect(*arguments: object) -> None:
        done = subprocess.run(
            [IMGREC.with_name("prefect"), "--no-prompt", *map(str, arguments)],
            cwd=root,
            env=_server_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout

    prefect("work-pool", "create", "imgrec", "--type", "process", "--overwrite")
    prefect("deploy", "--all")
    library = tmp_path / "library"
    ingest = ["--param", f"images_root={photos}", "--param", f"library={library}"]
    prefect("deployment", "run", "ingest-images/ingest", *ingest)
    prefect("worker", "start", "--pool", "imgrec", "--run-once")
    assert (library / "indexes" / "color" / "current").exists()
    prefect("deployment", "run", "search-images/search", "--param", 'queries=["id:1"]', "--param", f"library={library}")
    prefect("worker", "start", "--pool", "imgrec", "--run-once")
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
    assert (run.name, run.state_name) == ("search ['id:1']", "Completed")
