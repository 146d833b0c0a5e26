"""What killed processes leave in the folder of temporary files goes, and nothing else does."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.storage.errors import MachineError
from imgrec.storage.machine import scratch
from imgrec.storage.machine.scratch import MARK, find_short_place, remove_dead_folders

# A process with a worker, and so with a fork server and its socket.
WORKING = """
import os
from imgrec.storage.machine import scratch
from imgrec.storage.machine.pool import WorkerPool
scratch.SHORT_PLACES = {places}
if __name__ == "__main__":
    with WorkerPool(1) as pool:
        pool.submit(os.getpid).result()
        print("working", flush=True)
        input()
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose name is short enough for sockets, wherever the tests' own are."""
    with tempfile.TemporaryDirectory(prefix="imgrec-", dir="/tmp") as parent:
        folder = Path(parent) / "t"
        folder.mkdir()
        yield folder


def start(temporary: Path, short: Path | None = None) -> "subprocess.Popen[str]":
    """Start it with this folder of temporary files, and a `short` one beside it."""
    program = temporary.parent / "working.py"
    if short is not None:
        short.mkdir()
    program.write_text(WORKING.format(places=(str(short or temporary),)))
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONPATH": str(Path.cwd())}
    process = subprocess.Popen(
        [sys.executable, program], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def folders(temporary: Path) -> set[Path]:
    return set(temporary.glob("pymp-*"))


def test_the_next_process_removes_the_folder_of_a_killed_one(temporary: Path) -> None:
    (temporary / "pymp-foreign").mkdir()  # some other program's
    killed = start(temporary)
    killed.kill()
    killed.communicate()
    assert len(left := folders(temporary)) == 2
    running = start(temporary)
    assert len(folders(temporary) & left) == 1
    other = start(temporary)
    assert len(folders(temporary)) == 3  # the folder of one that runs stays
    for process in (running, other):
        process.communicate("\n")
        assert process.returncode == 0
    assert [path.name for path in folders(temporary)] == ["pymp-foreign"]


def test_a_folder_of_a_long_name_is_not_taken_for_sockets(temporary: Path) -> None:
    long = temporary / ("d" * 110)
    long.mkdir()
    process = start(long, temporary / "short")
    assert not folders(long)
    (short,) = folders(temporary / "short")
    assert (short / MARK).exists()
    process.communicate("\n")
    assert process.returncode == 0
    assert not folders(temporary / "short")


def test_where_no_folder_has_a_short_name_one_line_says_so(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = temporary / ("d" * 110)
    long.mkdir()
    monkeypatch.setattr(scratch, "SHORT_PLACES", (str(temporary / "nowhere"),))
    with pytest.raises(MachineError, match="set TMPDIR to a folder whose name has no more than 71 bytes"):
        find_short_place(long)
    assert find_short_place(temporary) == temporary


def test_folders_of_other_users_stay(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root may give files away")
    for name, user in (("pymp-mine", 0), ("pymp-theirs", 1234)):
        (tmp_path / name).mkdir()
        (tmp_path / name / MARK).touch()
        os.chown(tmp_path / name, user, user)
    (tmp_path / "pymp-link").mkdir()
    (tmp_path / "pymp-link" / MARK).symlink_to(tmp_path / "pymp-theirs" / MARK)
    remove_dead_folders(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"pymp-theirs", "pymp-link"}
