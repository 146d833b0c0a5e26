"""The temporary server that Prefect starts where none is configured, made a good child.

Prefect starts it as a plain child process, on a port that was free a moment ago. Another process could have taken that
port, and would then be given our runs; a Ctrl-C in the terminal would end the server under a flow that is finishing
its work; nobody would notice its death; and it would outlive a command that was killed, for ever.

Nor is it started through Prefect: importing that part takes each process seconds, its settings alone one. Our server is
a child from the first moment on, and Prefect, imported while it starts, finds it by PREFECT_API_URL like any other.
"""

import atexit
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from functools import partialmethod
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from imgrec.flows.cli.collecting import importing
from imgrec.flows.cli.console import complain, ignore_missing_home
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.server_named import API_URL, server_is_named
from imgrec.storage.errors import ImgrecError

if TYPE_CHECKING:
    from prefect.settings import Settings

CHECK_EVERY_S = 1.0
STOP_WITHIN_S = 5.0
# The next start may go well: two that make one database at the same time, or memory that was short for a moment.
MAX_STARTS = 3
ROOM_BYTES = 8 << 20  # SQLite's write-ahead log takes 4 MB before it is merged into the database
UI_URL = "PREFECT_UI_URL"
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it, and a process that is ended at once does not bring it back


class ServerError(ImgrecError):
    """Prefect's temporary server does not start, or does not stay."""


_temporary: "TemporaryServer | None" = None


def start_temporary_server() -> "TemporaryServer | None":
    """Start a server for this process where none is configured, and return it; comes before the import of Prefect.

    Where Prefect has been imported already (by a plugin, or in tests), it says itself what it is configured for.
    """
    if server_is_named() or "prefect" in sys.modules:
        from prefect.settings import get_current_settings

        if get_current_settings().api.url:
            return None
    # Else Prefect says on standard error, several times, that the server did not take the log; what fails then is told.
    logging.raiseExceptions = False
    global _temporary
    _temporary = TemporaryServer()
    os.environ |= {API_URL: _temporary.url, UI_URL: ""}  # it has no pages that could show a run
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()  # it has read the variables at its import
    return _temporary


def temporary_url() -> str | None:
    """Where the server is that this process has started."""
    return None if _temporary is None else _temporary.url


def _ignore_proxies() -> None:
    """Keep Prefect's clients, which talk to the temporary server only, from a proxy's very address.

    httpx refuses to start with one of a kind that it does not know (`socks://`, as GNOME sets it), used or not.
    """
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient

    for client in (PrefectHttpxSyncClient, PrefectHttpxAsyncClient):
        client.__init__ = partialmethod(client.__init__, trust_env=False)  # type: ignore[method-assign, assignment] # the same


def _check_room(settings: "Settings") -> None:
    """Make sure that Prefect's database can grow: a server with a full disk starts, and then fails at each request.

    Raises:
        ServerError: it cannot.
    """
    home, url = settings.home, settings.server.database.connection_url
    if url is not None and str(home) not in url.get_secret_value():
        return
    try:
        home.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=home) as probe:
            probe.write(bytes(ROOM_BYTES))
    except OSError as error:
        raise ServerError(
            f"Prefect's database in {home} cannot be written ({error.strerror}): free {ROOM_BYTES >> 20} MB there, "
            "make it writable, or set PREFECT_HOME to a folder elsewhere"
        ) from error


class TemporaryServer:
    """A Prefect server for this process only. When it dies it is started anew, and its clients do not notice.

    The socket is ours as long as we live: no other process can have its port, and whoever connects while no child
    accepts is served by the next one.
    """

    def __init__(self) -> None:
        # What Prefect passes to its own, https://github.com/PrefectHQ/prefect/blob/3.8.8/src/prefect/server/api/server.py
        mine = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        self._environment = {**os.environ, **mine, "PYTHONSAFEPATH": "1"}
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self._ending = threading.Event()
        self._answering: Future[subprocess.Popen[bytes]] = Future()
        self.process, told = self._start()
        atexit.register(self.end)
        threading.Thread(target=self._keep, args=(told,), daemon=True).start()

    @property
    def url(self) -> str:
        """Where Prefect's clients find it."""
        return f"http://127.0.0.1:{self.port}/api"

    def wait_until_it_answers(self) -> "subprocess.Popen[bytes]":
        """Return the process that serves.

        Raises:
            ServerError: it does not start, or cannot write its database.
        """
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        _check_room(settings)
        _ignore_proxies()
        timeout_s = settings.server.ephemeral.startup_timeout_seconds
        try:
            return self._answering.result(timeout_s)
        except TimeoutError as error:
            raise ServerError(
                f"Prefect's temporary server has not started in {timeout_s} s: run the command again when the "
                "machine is less busy, or set PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
            ) from error

    def _start(self) -> "tuple[subprocess.Popen[bytes], int]":
        """Start a child; return it and a pipe from which comes a byte as soon as it answers, and the end if it dies."""
        told, tells = os.pipe()
        try:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "imgrec.flows.cli.server",
                    *map(str, (self._socket.fileno(), tells, os.getpid())),
                ],
                env=self._environment,
                start_new_session=True,
                pass_fds=(self._socket.fileno(), tells),
            ), told
        finally:
            os.close(tells)

    def _keep(self, told: int) -> None:
        try:
            why = self._serve_until_the_last_death(told)
        except OSError as error:
            why = f"Prefect's temporary server cannot be started anew ({error.strerror}): run the command again"
        if self._ending.is_set():
            return
        if self._answering.done():
            _give_up(ServerError(why))
        else:
            self._answering.set_exception(ServerError(why))

    def _serve_until_the_last_death(self, told: int) -> str:
        """Return why there is no server any more."""
        for started in range(1, MAX_STARTS + 1):
            answers = os.read(told, 1)
            os.close(told)
            if answers and not self._answering.done():
                self._answering.set_result(self.process)
            code = self.process.wait()
            if self._ending.is_set():
                break
            if started < MAX_STARTS:
                self.process, told = self._start()
        return _why_it_ended(code)

    def end(self) -> None:
        """End the server; comes by itself when this process ends."""
        self._ending.set()
        self.process.terminate()
        try:
            self.process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _give_up(error: ServerError) -> None:
    """End this process at once: the flow would wait for minutes. What it has done is kept, as after any kill."""
    try:
        if sys.stderr.isatty():
            sys.stderr.write(SHOW_CURSOR)
        complain(str(error))
        for worker in multiprocessing.active_children():
            worker.kill()  # before it can be surprised by our end, and say so
    finally:
        os._exit(FAILED)


def _why_it_ended(code: int) -> str:
    if code < 0:
        return (
            f"Prefect's temporary server was killed {MAX_STARTS} times ({signal.Signals(-code).name}), mostly for want "
            "of memory: use fewer --workers or close some programs, then run the command again: it goes on from here"
        )
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    return (
        f"Prefect's temporary server ended {MAX_STARTS} times (exit code {code}): its database is in {home}, which may "
        "be damaged or full; `prefect server start` shows the reason, and another PREFECT_HOME starts with a new one"
    )


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(CHECK_EVERY_S)
    os._exit(0)


def _serve(listening: int, tells: int, parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    ignore_missing_home()
    with importing():
        import prefect.server.api.server
        import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            try:
                os.write(tells, b"1")
            except BrokenPipeError:  # who started it has ended meanwhile, and would like no traceback
                os._exit(0)
            os.close(tells)

    config = uvicorn.Config(prefect.server.api.server.create_app, factory=True, log_level="error", lifespan="on")
    Server(config).run([socket.socket(fileno=listening)])


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
