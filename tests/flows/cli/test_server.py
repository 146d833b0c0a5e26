"""The temporary Prefect server: it belongs to one process, and its death is mended or told."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgrec.flows.cli.server import MAX_STARTS, ServerError, TemporaryServer
from tests.flows.launcher import OWN_MLFLOW, servers, wait_until_gone

IMGREC = Path(sys.executable).with_name("imgrec")

# Loaded by every Python process below: of the ports that Prefect draws from, the same one is drawn.
ONE_PORT = """
import random
choice = random.choice
random.choice = lambda options: {port} if options == range(8000, 9000) else choice(options)
"""


@pytest.fixture
def server() -> Iterator[TemporaryServer]:
    server = TemporaryServer()
    yield server
    server.end()


def wait(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def kill(server: TemporaryServer) -> None:
    """Kill the process that serves, once it is there."""
    wait(lambda: server.process.returncode is None)
    killed = server.process
    killed.kill()
    killed.wait()


def test_a_server_that_is_killed_is_started_anew_on_its_port(server: TemporaryServer) -> None:
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))  # also while nobody answers there yet
    kill(server)
    first = server.wait_until_it_answers()
    kill(server)
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/health", timeout=60) as answer:
        assert answer.read() == b"true"
    assert server.process is not first


def test_a_server_whose_starter_has_ended_meanwhile_ends_quietly() -> None:
    told, tells = os.pipe()
    os.close(told)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        arguments = map(str, (listening.fileno(), tells, os.getpid()))
        done = subprocess.run(
            [sys.executable, "-m", "imgrec.flows.cli.server", *arguments],
            pass_fds=(listening.fileno(), tells), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    os.close(tells)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_server_that_is_killed_at_every_start_is_told(server: TemporaryServer) -> None:
    for _ in range(MAX_STARTS):
        kill(server)
    with pytest.raises(ServerError, match=r"was killed 3 times \(SIGKILL\), mostly for want of memory"):
        server.wait_until_it_answers()


def kill_servers(driver: int, library: Path, times: int) -> None:
    """Kill the server of an ingest that writes its library already, and those that come after it."""
    wait((library / "registry.sqlite").exists, 300)
    killed: set[int] = set()
    while len(killed) < times:
        wait(lambda: set(servers(driver)) - killed)
        for server in set(servers(driver)) - killed:
            os.kill(server, signal.SIGKILL)
            killed.add(server)


Ingest = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def ingest(tmp_path: Path, own_server_environment: dict[str, str]) -> Ingest:
    """Start an ingest with a Prefect database of its own, named `home`."""

    def start(home: str, photos: Path, library: Path, **more: str) -> "subprocess.Popen[str]":
        own = {"PREFECT_HOME": str(tmp_path / home), "PYTHONPATH": str(tmp_path)}
        return subprocess.Popen(
            [IMGREC, "ingest", photos, "--library", library, "--chunk-size", "5", "--json"],
            env={**own_server_environment, **OWN_MLFLOW, **own, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    return start


@pytest.mark.slow
def test_two_commands_at_once_do_not_share_a_server(pictures: Path, tmp_path: Path, ingest: Ingest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (tmp_path / "sitecustomize.py").write_text(ONE_PORT.format(port=port))
    both = {home: ingest(home, pictures, tmp_path / f"library-{home}") for home in ("one", "two")}
    for home, running in both.items():
        out, err = running.communicate(timeout=300)
        assert (running.returncode, err) == (0, "")
        assert json.loads(out)["images"]["ok"] == 20
        with sqlite3.connect(tmp_path / home / "prefect.db") as database:
            assert database.execute("SELECT state_name FROM flow_run").fetchall() == [("Completed",)]


@pytest.mark.slow
def test_a_server_may_be_killed_under_an_ingest(pictures: Path, tmp_path: Path, ingest: Ingest) -> None:
    running = ingest("home", pictures, tmp_path / "first")
    kill_servers(running.pid, tmp_path / "first", times=1)
    out, err = running.communicate(timeout=300)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["images"]["ok"] == 20

    running = ingest("home", pictures, tmp_path / "second")
    kill_servers(running.pid, tmp_path / "second", times=MAX_STARTS)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, out) == (1, "")
    assert err.startswith("imgrec: error: Prefect's temporary server was killed 3 times (SIGKILL), mostly for want of ")
    assert err.count("\n") == 1
    wait_until_gone(running.pid)
    assert not servers(running.pid)

    with sqlite3.connect(tmp_path / "home" / "prefect.db") as database:
        states = database.execute("SELECT state_name FROM flow_run ORDER BY created").fetchall()
    assert states == [("Completed",), ("Running",)]


@pytest.mark.slow
def test_the_temporary_server_is_reached_without_a_proxy(photos: Path, tmp_path: Path, ingest: Ingest) -> None:
    """`socks://` is what desktops set, and httpx knows no such thing."""
    proxies = {
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks://127.0.0.1:9/",
    }
    running = ingest("home", photos, tmp_path / "library", **proxies)
    out, err = running.communicate(timeout=300)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["images"]["ok"] == 6
