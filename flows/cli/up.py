"""A Prefect server, a worker and the deployments in one command: `imgrec up`."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.resources import as_file, files
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen

import click

from imgrec.flows.cli.console import complain, speak_plainly
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.own_server import AUTH, OwnServer, announced
from imgrec.flows.cli.server_named import API_URL, server_is_named
from imgrec.storage.errors import ImgrecError

POOL = "imgrec"
STARTS_WITHIN_S = 300  # a new database is migrated first, which took 26 s on a busy machine
STOPS_WITHIN_S = 20


class UpError(ImgrecError):
    """The server, the deployments or the worker cannot be brought up."""


@click.command()
@click.option("--port", type=click.IntRange(1, 65_535), default=4200, show_default=True, help="Port of the server.")
@click.option("--no-password", is_flag=True, help="Let everybody on this machine use the server.")
@click.pass_obj
def up(verbose: bool, /, port: int, no_password: bool) -> None:
    """Bring up a Prefect server, a worker and the deployments of prefect.yaml, until Ctrl-C.

    The server listens on this machine only, and its database is kept. On a machine that many share it asks for a
    password, which is printed; your own `imgrec` commands use the server, and know the password, by themselves.
    Where PREFECT_API_URL or a Prefect profile names a server, that one is used, and only the worker is started.

    \b
    imgrec up
    PREFECT_API_URL=https://prefect.example.org/api imgrec up
    """
    speak_plainly(verbose)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    with ExitStack() as stack:
        children: dict[str, subprocess.Popen[bytes]] = {}
        if server_is_named():
            environment = dict(os.environ)
            where = os.environ.get(API_URL, "the server of your Prefect profile")
        else:
            own = OwnServer(port, os.getpid(), "" if no_password else f"imgrec:{secrets.token_urlsafe(12)}")
            environment = {**os.environ, **own.environment}
            children["server"] = stack.enter_context(_server(own))
            _wait_until_it_answers(own, children["server"], stop)
            stack.enter_context(announced(own))
            where = own.url
        if not stop.is_set():
            _deploy(environment)
            children["worker"] = stack.enter_context(_child(_prefect("worker", "start", "--pool", POOL), environment))
            click.echo(f"Prefect: {where}")
            if "server" in children and own.auth:
                click.echo(f"password: {own.auth}   (others can reach this port; --no-password asks for none)")
            click.echo("Ctrl-C stops it; what runs is stopped too, and the next ingest goes on from there.")
        _wait(children, stop)


def _server(own: OwnServer) -> "AbstractContextManager[subprocess.Popen[bytes]]":
    """Start the server.

    Raises:
        UpError: the port is taken.
    """
    try:
        socket.create_server(("127.0.0.1", own.port)).close()
    except OSError as error:
        raise UpError(
            f"port {own.port} is not free ({error.strerror}): `imgrec up` runs already, or choose another --port"
        ) from error
    mine = {"PREFECT_UI_API_URL": f"{own.url}/api"}
    if own.auth:
        mine |= {"PREFECT_SERVER_API_AUTH_STRING": own.auth, AUTH: own.auth}
    arguments = _prefect("server", "start", "--host", "127.0.0.1", "--port", str(own.port))
    environment = {name: value for name, value in os.environ.items() if name != API_URL}
    return _child(arguments, {**environment, **mine})


@contextmanager
def _child(arguments: list[str], environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that a Ctrl-C in the terminal does not reach, since we end it when it is its turn."""
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _prefect(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "prefect", "--no-prompt", *arguments]


def _wait_until_it_answers(own: OwnServer, process: "subprocess.Popen[bytes]", stop: threading.Event) -> None:
    until = time.monotonic() + STARTS_WITHIN_S
    while not stop.wait(0.2):
        if process.poll() is not None:
            raise UpError(
                f"Prefect's server ended at its start (exit code {process.returncode}): see what it said above"
            )
        try:
            with urlopen(f"{own.url}/api/health", timeout=5):  # asks for no password
                return
        except (URLError, OSError) as error:
            if time.monotonic() > until:
                raise UpError(
                    f"Prefect's server does not answer at {own.url} ({error}): run the command again"
                ) from None


def _deploy(environment: Mapping[str, str]) -> None:
    """Make the work pool and the deployments, or bring them up to date.

    Raises:
        UpError: the server refuses.
    """
    with as_file(files("imgrec.flows") / "prefect.yaml") as path, TemporaryDirectory() as empty:
        for arguments in (
            ("work-pool", "create", POOL, "--type", "process", "--overwrite"),
            ("deploy", "--all", "--prefect-file", str(path)),
        ):
            ran = subprocess.run(
                _prefect(*arguments), env=environment, cwd=empty, capture_output=True, text=True, check=False
            )
            if ran.returncode:
                told = (ran.stderr.strip() or ran.stdout.strip()).splitlines() or ["no reason given"]
                raise UpError(f"`prefect {' '.join(arguments)}` failed: {told[-1]}")


def _wait(children: Mapping[str, "subprocess.Popen[bytes]"], stop: threading.Event) -> None:
    while not stop.wait(1.0):
        for name, process in children.items():
            if process.poll() is not None:
                complain(f"Prefect's {name} ended by itself (exit code {process.returncode}): run `imgrec up` again")
                raise SystemExit(FAILED)
