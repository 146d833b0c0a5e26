"""What a machine refuses — space, memory, open files, permission — is one clear line, and the next run goes on."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from tests.flows.album import MODALITIES, Album, check
from tests.flows.conftest import Imgrec
from tests.flows.launcher import OWN_MLFLOW, Ended, Launcher, Running, wait_until_gone, workers

IMGREC = Path(sys.executable).with_name("imgrec")
KB = 1024


class Disk:
    """A small file system of its own, mounted at `path`."""

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        path.mkdir()
        self._run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path)

    def resize(self, size: int) -> None:
        self._run("mount", "-o", f"remount,size={size}", self.path)

    def used(self) -> int:
        return shutil.disk_usage(self.path).used

    def make(self, mode: str) -> None:
        """Remount it `ro` or `rw`."""
        self._run("mount", "-o", f"remount,{mode}", self.path)

    def remove(self) -> None:
        self._run("umount", "-l", self.path)

    @staticmethod
    def _run(*command: object) -> None:
        subprocess.run(list(map(str, command)), check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    disk = Disk(tmp_path / "disk", 16 * KB)
    yield disk
    disk.remove()


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path / "photos", seed=7)


def start(launcher: Launcher, album: Album, library: Path, **options: object) -> Running:
    chosen = [option for modality in MODALITIES for option in ("--modality", modality)]
    arguments = ["ingest", album.root, "--library", library, *chosen, "--chunk-size", 5, "--json"]
    return launcher.start(*arguments, library=library, **options)


def ingest(launcher: Launcher, album: Album, library: Path, **options: object) -> Ended:
    ended = start(launcher, album, library, **options).wait()
    wait_until_gone(ended.pid)
    return ended


def assert_one_line(ended: Ended, said: str) -> None:
    assert (ended.code, ended.out) == (1, ""), ended
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("imgrec: warning: MLflow")]
    assert line.startswith("imgrec: error: ")
    assert said in line
    assert "then run the command again" in line


def last_places(ended: Ended) -> set[str]:
    """Where in the library a command was at its end: the first folder, or the file. It tidies up in two others."""
    return {step.split(" /", 1)[1].split("/")[0] for step in [step for step in ended.steps if " /" in step][-4:]}


def fill_and_grow(launcher: Launcher, album: Album, disk: Disk, grow_kb: tuple[int, int]) -> set[str]:
    """Ingest on a disk that is too small, a little less each time; return where the ingests stopped."""
    random = Random(1)
    library, size, stopped = disk.path / "library", 16 * KB, set[str]()
    while (ended := ingest(launcher, album, library, environment=OWN_MLFLOW)).code:
        assert_one_line(ended, f"no space is left on the disk of {library}")
        stopped |= last_places(ended)
        size += random.randrange(*grow_kb) * KB
        disk.resize(size)
    disk.resize(size + 100 * KB)  # a reader of the registry needs some KB too
    check(library, album, {})
    return stopped


def test_a_full_disk_stops_an_ingest_and_more_space_lets_it_go_on(launcher: Launcher, album: Album, disk: Disk) -> None:
    assert fill_and_grow(launcher, album, disk, (300, 600)) >= {"registry.sqlite", "indexes"}


@pytest.mark.slow
def test_a_full_disk_stops_an_ingest_that_prefect_runs(prefect_launcher: Launcher, album: Album, disk: Disk) -> None:
    assert fill_and_grow(prefect_launcher, album, disk, (300, 600)) >= {"registry.sqlite", "indexes"}


@pytest.mark.slow
def test_a_disk_may_be_full_at_any_write(launcher: Launcher, album: Album, disk: Disk) -> None:
    stopped = fill_and_grow(launcher, album, disk, (20, 120))
    assert stopped >= {"registry.sqlite", "shards", "indexes"}


def test_a_full_disk_under_prefects_own_database_is_told(
    album: Album, disk: Disk, tmp_path: Path, own_server_environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [IMGREC, "ingest", album.root, "--library", tmp_path / "library"],
        env={**own_server_environment, "PREFECT_HOME": str(disk.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,  # no server is waited for
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"Prefect's database in {disk.path} cannot be written (No space left on device): free 8 MB there" in line


@pytest.mark.slow
def test_a_disk_that_fills_up_under_prefects_database_is_told(
    album: Album, disk: Disk, tmp_path: Path, own_server_environment: dict[str, str]
) -> None:
    disk.resize(64 * KB**2)
    environment = {**own_server_environment, "PREFECT_HOME": str(disk.path / "home")}

    def start(library: Path) -> "subprocess.Popen[str]":
        command: list[str | Path] = [IMGREC, "ingest", album.root, "--library", library, "--json"]
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    start(tmp_path / "first").communicate(timeout=300)
    with closing(sqlite3.connect(disk.path / "home" / "prefect.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # what it has taken of the disk already would be used first
    running = start(tmp_path / "second")
    while not (tmp_path / "second" / "registry.sqlite").exists():
        assert running.poll() is None
        time.sleep(0.01)
    disk.resize(disk.used())
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (1, "")
    (line,) = err.splitlines()
    assert f"mostly since the disk of its database is full: free space in {disk.path / 'home'}, then" in line
    wait_until_gone(running.pid)


def test_a_read_only_disk_is_searched_and_not_written(
    launcher: Launcher, album: Album, disk: Disk, imgrec: Imgrec
) -> None:
    disk.resize(64 * 1024 * KB)
    library = disk.path / "library"
    assert ingest(launcher, album, library).code == 0
    disk.make("ro")
    album.change()
    assert_one_line(ingest(launcher, album, library), f"{library}/.lock is read-only")
    for arguments in (["search", "id:1"], ["status"], ["failures"], ["sql", "SELECT path, vector FROM color"]):
        assert imgrec(*arguments, "--library", library, "--json").lines
    doctor = imgrec("doctor", "--library", library, "--all", "--json")
    assert (doctor.code, doctor.lines[0]["findings"], doctor.err) == (0, [], "")
    for arguments in (["gc"], ["gc", "--delete"], ["doctor", "--fix"]):
        refused = imgrec(*arguments, "--library", library)
        assert (refused.code, refused.err.count("\n")) == (1, 1)
        assert " is read-only: make it writable, then run the command again" in refused.err
    disk.make("rw")
    assert ingest(launcher, album, library).code == 0
    check(library, album, {})


@pytest.mark.parametrize("files", [16, pytest.param(18, marks=pytest.mark.slow)])
def test_too_few_open_files_are_told(launcher: Launcher, album: Album, tmp_path: Path, files: int) -> None:
    assert_too_few_files_are_told(launcher, album, tmp_path, files)


@pytest.mark.parametrize("files", [24, pytest.param(32, marks=pytest.mark.slow)])
def test_too_few_open_files_are_told_through_prefect_too(
    prefect_launcher: Launcher, album: Album, tmp_path: Path, files: int
) -> None:
    assert_too_few_files_are_told(prefect_launcher, album, tmp_path, files)


def assert_too_few_files_are_told(launcher: Launcher, album: Album, tmp_path: Path, files: int) -> None:
    ended = ingest(launcher, album, tmp_path / "library", limits={"RLIMIT_NOFILE": files})
    assert ended.code == 1
    last = ended.err.splitlines()[-1]  # where it is the fork server that starves, that says so too
    assert f"more than {files} files would be open: raise the limit (`ulimit -n {4 * files}`)" in last
    assert ingest(launcher, album, tmp_path / "library").code == 0
    check(tmp_path / "library", album, {})


def test_a_picture_that_workers_have_no_memory_for_is_told(
    launcher: Launcher, album: Album, tmp_path: Path, imgrec: Imgrec
) -> None:
    Image.new("L", (12_000, 10_000)).save(album.root / "zz-large.png")  # 120 MB of pixels, three times over
    running = start(launcher, album, tmp_path / "library", environment={"IMGREC_WORKERS": "1"})
    while not (found := workers(running.pid)):
        time.sleep(0.01)
    for worker in found:
        taken = int(Path(f"/proc/{worker}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(worker, resource.RLIMIT_AS, (taken + 100 * KB**2, resource.RLIM_INFINITY))
    ended = running.wait()
    assert ended.code == 0
    failures = imgrec("failures", "--library", tmp_path / "library", "--json").lines
    told = {failure["path"]: (failure["status"], failure["reason"]) for failure in failures}
    assert told["zz-large.png"] == ("out_of_memory", "there is not enough memory to decode it")
    # With more of it, the next ingest takes the picture.
    again = ingest(launcher, album, tmp_path / "library")
    assert (again.code, again.report["retried"], "out_of_memory" in again.report["failures"]) == (0, 1, False)


def test_a_registry_that_another_program_holds_is_told(launcher: Launcher, album: Album, tmp_path: Path) -> None:
    library = tmp_path / "library"
    assert ingest(launcher, album, library).code == 0
    album.change()
    other = sqlite3.connect(library / "registry.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ended = ingest(
        launcher,
        album,
        library,
        constants={"imgrec.storage.registry.database.BUSY_TIMEOUT_S": 0},
        environment={"IMGREC_RETRIES": "0"},
    )
    other.close()
    assert_one_line(ended, f"another program has {library} open for writing: close it")
    assert ingest(launcher, album, library).code == 0
    check(library, album, {})
