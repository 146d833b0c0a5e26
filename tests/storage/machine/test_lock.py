"""One writer a library, whoever dies and wherever."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.machine import lock
from imgrec.storage.machine.lock import STALE_AFTER_S, writer_lock

HOLD = """
import sys, time
from pathlib import Path
from imgrec.storage.machine.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the library at `tmp_path`."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write_holder(root: Path, host: str, age_s: float) -> Path:
    path = root / "lock.json"
    path.write_text(json.dumps({"host": host, "pid": 4_711, "since": "2026-01-01T00:00:00+00:00"}))
    beat = time.time() - age_s
    os.utime(path, (beat, beat))
    return path


def test_a_second_writer_is_told_who_holds_the_library(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    since = json.loads((tmp_path / "lock.json").read_text())["since"]
    with pytest.raises(LibraryLockedError) as caught, writer_lock(tmp_path):
        raise AssertionError("two writers")
    assert str(caught.value).startswith(
        f"{tmp_path} is being written by process {holder.pid} on {socket.gethostname()} since {since} "
        f"(`-c {tmp_path}`): wait"
    )
    assert (tmp_path / "lock.json").exists()


def test_a_killed_holder_stands_in_nobodys_way(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock.json").exists()
    with writer_lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()


def test_two_writers_of_one_process_are_two(tmp_path: Path) -> None:
    with writer_lock(tmp_path), pytest.raises(LibraryLockedError), writer_lock(tmp_path):
        raise AssertionError("two writers")
    with writer_lock(tmp_path):
        pass


def test_a_writer_that_fails_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), writer_lock(tmp_path):
        raise KeyboardInterrupt
    with writer_lock(tmp_path):
        pass


def test_a_beating_holder_on_another_host_is_alive(tmp_path: Path) -> None:
    path = write_holder(tmp_path, "elsewhere", STALE_AFTER_S - 10)
    with pytest.raises(LibraryLockedError, match="process 4711 on elsewhere since 2026-01-01"), writer_lock(tmp_path):
        raise AssertionError("two writers")
    assert json.loads(path.read_text())["host"] == "elsewhere"
    path.unlink()
    with writer_lock(tmp_path):
        pass


def test_a_holder_on_another_host_is_dead_after_three_missed_beats(tmp_path: Path) -> None:
    write_holder(tmp_path, "elsewhere", STALE_AFTER_S + 1)
    with writer_lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["host"] == socket.gethostname()


def test_a_real_writer_on_another_host_is_refused_to_and_dead_when_its_beats_are_missed(tmp_path: Path) -> None:
    """A process with a host name of its own; once it is killed, only its last beat speaks for it."""
    if os.geteuid():
        pytest.skip("only root may give a process another host name")
    elsewhere = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$0" "$@"']
    command = [*elsewhere, sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        told = f"process {process.pid} on elsewhere since 20"
        for alive in (True, False):
            with pytest.raises(LibraryLockedError, match=told), writer_lock(tmp_path):
                raise AssertionError("two writers")
            if alive:
                process.kill()
                process.wait()
    beat = time.time() - STALE_AFTER_S - 1
    os.utime(tmp_path / "lock.json", (beat, beat))
    with writer_lock(tmp_path):
        pass


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff"])
def test_half_a_holder_stands_in_nobodys_way(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lock.json").write_bytes(content)
    with writer_lock(tmp_path):
        pass


def test_the_holders_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.005)
    with writer_lock(tmp_path):
        path = tmp_path / "lock.json"
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.002)


@pytest.mark.parametrize("left", [False, True], ids=["free", "of a dead holder"])
def test_of_two_hosts_that_find_it_free_at_once_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bool
) -> None:
    """Two threads stand for hosts that do not see each other's kernel locks."""
    if left:
        write_holder(tmp_path, "elsewhere", STALE_AFTER_S + 1)
    here, both_looked, both_tried, read = (
        threading.local(),
        threading.Barrier(2),
        threading.Barrier(2),
        lock.read_holder,
    )
    outcomes: list[str] = []

    def look(root: Path) -> dict[str, object] | None:
        holder = read(root)
        if not here.looked:
            here.looked = True
            both_looked.wait(10)
        return holder

    def write(name: str) -> None:
        here.name, here.looked = name, False
        try:
            with writer_lock(tmp_path):
                outcomes.append("held")
                both_tried.wait(10)
        except LibraryLockedError as error:
            outcomes.append(str(error))
            both_tried.wait(10)

    class NoLock:
        def __init__(self, path: Path, timeout: float) -> None: ...
        def acquire(self) -> None: ...
        def release(self) -> None: ...

    monkeypatch.setattr(lock, "FileLock", NoLock)
    monkeypatch.setattr(lock, "read_holder", look)
    monkeypatch.setattr(socket, "gethostname", lambda: here.name)
    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcome == "held" for outcome in outcomes) == [False, True]
    assert any("is being written by" in outcome for outcome in outcomes)
    assert list(tmp_path.iterdir()) == []


def test_a_holder_that_was_taken_for_dead_leaves_the_next_ones_file_alone(tmp_path: Path) -> None:
    with writer_lock(tmp_path):
        path = write_holder(tmp_path, "elsewhere", 0)
    assert json.loads(path.read_text())["host"] == "elsewhere"


def test_a_file_system_without_links_has_the_lock_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with writer_lock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock.json").exists()
