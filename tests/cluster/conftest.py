"""A real SLURM cluster of four nodes on this machine, brought up for these tests and taken down after them."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.pictures import write_pictures

HERE = Path(__file__).parent
NEEDED = "needs root on Debian 12, where it installs and starts SLURM"
# How often the driver asks SLURM here, where a real one would have other things to do.
POLL_S = 1.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("slurm")


def can_run_here() -> bool:
    release = Path("/etc/os-release")
    return os.geteuid() == 0 and release.is_file() and 'VERSION_ID="12"' in release.read_text()


@dataclass(frozen=True)
class Cluster:
    """A cluster, and ways to ask it and to do harm to it."""

    home: Path

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, f"{command}: {done.stderr}"
        return done.stdout

    def queued(self) -> dict[str, tuple[str, str]]:
        """Job id → state and node."""
        rows = [line.split("|") for line in self.run("squeue", "-h", "-r", "-o", "%i|%T|%N").splitlines()]
        return {job_id: (state, node) for job_id, state, node in rows}

    def running(self) -> list[str]:
        return [job_id for job_id, (state, _) in self.queued().items() if state == "RUNNING"]

    def jobs_since(self, started: str) -> dict[str, str]:
        """Job id → state of all jobs that ended since a moment, of which some may have been run more than once."""
        told = self.run("sacct", "-n", "-X", "-D", "-P", "-S", started, "-o", "JobID,State")
        return dict(line.split("|") for line in told.splitlines())

    def daemon(self, node: str) -> int:
        return int((self.home / "run" / f"slurmd-{node}.pid").read_text())

    def start_node(self, node: str) -> None:
        self.run("slurmd", "-f", os.environ["SLURM_CONF"], "-N", node)
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME", check=False)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if not can_run_here():
        pytest.skip(NEEDED)
    home = Path(os.environ.get("SLURM_SANDBOX") or tempfile.mkdtemp(prefix="imgrec-slurm-"))
    home.chmod(0o755)  # munge wants all to be able to get at its socket
    environment = {"SLURM_SANDBOX_MAX_ARRAY": "9", **os.environ, "SLURM_SANDBOX": str(home)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(home / "etc" / "slurm.conf"))
        try:
            subprocess.run(["bash", HERE / "up.sh"], env=environment, check=True)
            yield Cluster(home)
        finally:
            subprocess.run(["bash", HERE / "down.sh", "--purge"], env=environment, check=True)


@pytest.fixture(autouse=True)
def settings(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small jobs, soon noticed; one MLflow database for all libraries, and no Prefect, unless a test asks for it."""
    chosen = {
        "IMGREC_ORCHESTRATE": "none", "IMGREC_SLURM_CPUS_PER_TASK": "1", "IMGREC_SLURM_MEM_GB": "1",
        "IMGREC_SLURM_TIMEOUT_MIN": "15", "IMGREC_SLURM_POLL_S": str(POLL_S), "IMGREC_MODALITIES": "color",
        "IMGREC_MODELS_ROOT": str(tmp_path / "models"), "MLFLOW_TRACKING_URI": f"sqlite:///{cluster.home}/mlflow.db",
    }  # fmt: skip
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    wait_until(lambda: not cluster.queued(), "the queue of an earlier test is empty")


def wait_until(ready: Callable[[], object], what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real pictures and distorted copies of them; do not change it."""
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@dataclass
class Driver:
    """An `imgrec` process that runs beside the test, and what it says."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text()

    def end(self, seconds: float = 240) -> tuple[int, str]:
        """Wait for its end; return its exit code and what it said."""
        self.process.wait(seconds)
        return self.process.returncode, self.said


Imgrec = Callable[..., Driver]


@pytest.fixture
def imgrec(tmp_path: Path) -> Iterator[Imgrec]:
    """Start `imgrec ARGUMENTS…`; whoever still runs at the end of the test is killed."""
    started: list[Driver] = []

    def start(*arguments: object) -> Driver:
        command = [str(Path(sys.executable).parent / "imgrec"), *map(str, arguments)]
        log = tmp_path / f"said-{len(started)}"
        with log.open("wb") as out:
            started.append(Driver(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT), log))
        return started[-1]

    yield start
    for driver in started:
        if driver.process.poll() is None:
            driver.process.kill()
            driver.process.wait()
