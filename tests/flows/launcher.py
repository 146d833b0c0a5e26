"""Many real `imgrec` processes, cheaply: one process imports everything once, and each command is a fork of it.

The parent of the commands has no threads and does nothing but fork and wait; a command is the real one, in a session
of its own, with worker processes of its own.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO, Any

# For the environment of a command: its library has an MLflow database of its own, as it has outside of tests.
OWN_MLFLOW = {"MLFLOW_TRACKING_URI": ""}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Kill:
    """SIGKILL, `delay_s` after the `step`-th step in the library (a file opened for writing, renamed, removed …).

    `victim` is the driver, one of its workers (or the driver, where none is left), or the whole group.
    """

    step: int
    delay_s: float
    victim: str


@dataclass(frozen=True)
class Command:
    """`constants` ("module.NAME") make a small library do what large ones do; `limits` are the process' RLIMIT_…"""

    arguments: tuple[str, ...]
    library: str
    kill: Kill | None = None
    constants: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal), what it printed, its steps in the library."""

    code: int
    out: str
    err: str
    steps: tuple[str, ...]
    pid: int

    @property
    def struck(self) -> str | None:
        """The step after which the kill came."""
        pairs = zip(self.steps, self.steps[1:], strict=False)
        return next((step for step, then in pairs if then.startswith("killed")), None)

    @property
    def report(self) -> Any:
        return json.loads(self.out.splitlines()[-1])


class Running:
    """A command that has been started."""

    def __init__(self, launcher: "Launcher", pid: int) -> None:
        self.pid = pid
        self._launcher = launcher

    def wait(self) -> Ended:
        code = int(self._launcher.answer())
        printed = {name: (self._launcher.home / name).read_text("utf-8", "replace") for name in ("out", "err", "steps")}
        return Ended(code, printed["out"], printed["err"], tuple(printed["steps"].splitlines()), self.pid)


class Launcher:
    """Starts commands, one at a time."""

    def __init__(self, home: Path, process: subprocess.Popen[str]) -> None:
        self.home = home
        self._process = process

    def start(self, *arguments: object, library: Path, **options: Any) -> Running:
        command = Command(tuple(map(str, arguments)), str(library), **options)
        print(json.dumps(asdict(command)), file=self._requests, flush=True)
        return Running(self, int(self.answer()))

    def run(self, *arguments: object, library: Path, **options: Any) -> Ended:
        return self.start(*arguments, library=library, **options).wait()

    @property
    def _requests(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def open_launcher(home: Path, environment: Mapping[str, str]) -> Iterator[Launcher]:
    home.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.flows.launcher", home],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environment),
        cwd=Path(__file__).parents[2],
    ) as process:
        yield Launcher(home, process)
        process.communicate()


def members(group: int) -> list[int]:
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


def wait_until_gone(group: int, seconds: float = 15) -> None:
    """Wait for the last process of a group to end."""
    deadline = time.monotonic() + seconds
    while left := members(group):
        commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left if Path(f"/proc/{pid}").exists()]
        assert time.monotonic() < deadline, f"orphans: {commands}"
        time.sleep(0.02)


def workers(group: int) -> list[int]:
    """The worker processes of a command: children of its fork server."""
    return [pid for pid in members(group) if _parent(pid) in members(group) and _parent(_parent(pid)) == group]


def servers(driver: int) -> list[int]:
    """The temporary Prefect servers that a command has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().decode().split("\0")
        except OSError:
            continue  # it ended meanwhile
        if "imgrec.flows.cli.server" in line and str(driver) in line:
            found.append(int(path.parent.name))
    return found


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return -1


# The other side


def stop_heartbeats() -> None:
    """Keep Prefect from the heartbeats of flow runs: each run waits for the thread's next second before it ends."""
    from prefect.flow_engine import BaseFlowRunEngine

    BaseFlowRunEngine.heartbeat_seconds = None  # type: ignore[method-assign,assignment] # a property; no setting is off


def _serve(home: Path) -> None:
    for module in (
        "imgrec.flows.pipeline.ingesting", "mlflow.store.tracking.sqlalchemy_store", "imgrec.flows.cli.tables"
    ):  # fmt: skip
        import_module(module)
    if os.environ["IMGREC_ORCHESTRATE"] == "prefect":
        import_module("imgrec.flows.ingest_images")
        stop_heartbeats()
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(home, command)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(home: Path, command: dict[str, Any]) -> None:
    """Turn this fork into the command, as if a shell had started it."""
    os.setsid()
    for name, descriptor in (("out", 1), ("err", 2)):
        os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(command["environment"])
    for name, value in command["constants"].items():
        module, _, constant = name.rpartition(".")
        setattr(import_module(module), constant, value)
    for name, limit in command["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    _watch_steps(home / "steps", command["library"], command["kill"] and Kill(**command["kill"]))
    sys.argv = ["imgrec", *command["arguments"]]
    from imgrec.flows.cli.main import main

    main()


def _watch_steps(log: Path, library: str, kill: Kill | None) -> None:
    """Write down every step in the library, and kill at the one that was drawn."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    counted = iter(range(1, 1_000_000))

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & WRITES):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect"):
            return
        if not str(arguments[0]).startswith(library):
            return
        os.write(descriptor, f"{event} {str(arguments[0])[len(library) :]}\n".encode())
        if kill is None or next(counted) != kill.step:
            return
        if kill.delay_s:
            threading.Thread(target=_strike, args=(kill, descriptor), daemon=True).start()
        else:
            _strike(kill, descriptor)

    sys.addaudithook(watch)


def _strike(kill: Kill, log: int) -> None:
    time.sleep(kill.delay_s)
    found = workers(os.getpid())
    os.write(log, f"killed the {kill.victim}\n".encode())
    if kill.victim == "worker" and found:
        os.kill(random.Random(kill.step).choice(found), signal.SIGKILL)
    elif kill.victim == "group":
        os.killpg(0, signal.SIGKILL)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))
