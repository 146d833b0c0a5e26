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
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.shard_rows import shard_files
from tests.flows.conftest import CHUNK, MANY
from tests.flows.launcher import servers, wait_until_gone
from tests.plain import ingest

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


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(server_environment: dict[str, str]) -> Start:
    """Start `imgrec ingest` in a process group of its own."""

    def start(
        photos: Path, library: Path, *options: str, environment: dict[str, str] = server_environment
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [IMGREC, "ingest", photos, "--library", library, "--chunk-size", str(CHUNK), "--json", *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _shards(library: Path) -> int:
    return len([path for path in library.glob("shards/*/*/*.parquet") if not path.name.startswith(".")])


def test_a_killed_ingest_is_completed_by_the_next(many_photos: Path, library: Path, start: Start) -> None:
    killed = start(many_photos, library)
    _wait(lambda: _shards(library) >= 2, 60)
    killed.kill()  # the driver only: its workers must notice by themselves
    killed.communicate()
    wait_until_gone(killed.pid)
    kept = _shards(library)

    out, _ = start(many_photos, library).communicate()

    report = json.loads(out)
    assert report["images"] == {"ok": MANY, "failed": 0, "missing": 0}
    assert report["embedded"] == MANY - CHUNK * kept  # nothing that had reached a shard is computed again
    assert report["indexes"]["color"]["vectors"] == MANY
    assert not list(library.rglob(".tmp-*"))


def test_ctrl_c_once_finishes_what_is_in_flight(many_photos: Path, library: Path, start: Start) -> None:
    running = start(many_photos, library)
    _wait(lambda: _shards(library) >= 2, 60)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert [line for line in err.splitlines() if line] == [
        "imgrec: finishing what is in flight; press Ctrl-C again to stop at once",
        "imgrec: error: interrupted; the next `imgrec ingest` goes on from here",
    ]
    wait_until_gone(running.pid)
    kept = _shards(library)
    assert 2 <= kept < MANY // CHUNK
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        assert len(shard_files(registry)) == kept  # mirrored, not only written
    assert not list(library.rglob(".tmp-*"))
    assert not (library / "chunks").exists()

    assert ingest(library=library).as_json()["embedded"] == MANY - CHUNK * kept


def test_ctrl_c_twice_ends_at_once(many_photos: Path, library: Path, start: Start) -> None:
    running = start(many_photos, library, "--chunk-size", str(MANY))  # all of it is in flight
    _wait(lambda: (library / "chunks").exists() and any((library / "chunks").glob("*.json")), 60)
    os.killpg(running.pid, signal.SIGINT)
    err = running.stderr
    assert err is not None
    _wait(lambda: "press Ctrl-C again" in err.readline(), 10)
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=2)
    assert running.returncode == -signal.SIGINT  # which a shell shows as 130
    wait_until_gone(running.pid)
    assert _shards(library) == 0

    assert ingest(library=library).images["ok"] == MANY
    assert not list(library.rglob(".tmp-*"))


@pytest.mark.parametrize("moment", [0.0, pytest.param(0.3, marks=pytest.mark.slow)])
def test_ctrl_c_during_the_scan_keeps_what_was_read(
    many_photos: Path, library: Path, start: Start, moment: float
) -> None:
    running = start(many_photos, library)
    _wait(lambda: (library / "registry.sqlite").exists(), 60)
    time.sleep(moment)
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in err
    wait_until_gone(running.pid)
    assert ingest(library=library).indexes["color"].manifest.live == MANY


@pytest.mark.slow
def test_a_server_of_its_own_leaves_ctrl_c_to_the_command_and_ends_with_it(
    many_photos: Path, library: Path, start: Start, tmp_path: Path, own_server_environment: dict[str, str]
) -> None:
    own = {**own_server_environment, "PREFECT_HOME": str(tmp_path / "prefect")}
    running = start(many_photos, library, environment=own)
    _wait(lambda: _shards(library) >= 2, 120)
    assert len(servers(running.pid)) == 1
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, "goes on from here" in err) == (130, True)
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        assert len(shard_files(registry)) == _shards(library)

    running = start(many_photos, library, environment=own)
    _wait(lambda: len(servers(running.pid)) == 1, 120)
    running.kill()
    running.communicate()
    _wait(lambda: not servers(running.pid), 10)


def test_a_server_that_does_not_answer_is_told(
    photos: Path, library: Path, own_server_environment: dict[str, str]
) -> None:
    environment = {**own_server_environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
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
def test_the_deployments_run_on_a_worker(photos: Path, tmp_path: Path, server_environment: dict[str, str]) -> None:
    root = Path(__file__).parents[2]

    def prefect(*arguments: object) -> None:
        done = subprocess.run(
            [IMGREC.with_name("prefect"), "--no-prompt", *map(str, arguments)],
            cwd=root,
            env=server_environment,
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
    with writer_lock(library):
        prefect("deployment", "run", "ingest-images/ingest", *ingest)
        prefect("worker", "start", "--pool", "imgrec", "--run-once")
    run = _latest_run()
    assert (run.state_type, run.state_name) == (StateType.COMPLETED, "Skipped")
    assert run.state is not None
    assert f"is being written by process {os.getpid()}" in str(run.state.message)
    prefect("deployment", "run", "search-images/search", "--param", 'queries=["id:1"]', "--param", f"library={library}")
    prefect("worker", "start", "--pool", "imgrec", "--run-once")
    run = _latest_run()
    assert (run.name, run.state_name) == ("search id:1", "Completed")


def _latest_run() -> FlowRun:
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
    return run
