"""Worker processes that die, hang or run out of memory, and the work around them."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import pytest

from imgrec.storage.machine.pool import TRIES_ALONE, WorkerDiedError, WorkerPool, map_batches, time_limit
from tests.storage.pictures import InProcess


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2) as pool:
        yield pool


# What runs in workers: `deeds` are numbers, or what to do instead of returning one


def act(log: Path, deeds: Sequence[str]) -> list[str]:
    """Write every deed down before it is done."""
    for deed in deeds:
        with log.open("a") as file:
            print(deed, file=file)
        if deed == "exit":
            os._exit(3)
        elif deed == "leave":
            sys.exit(0)
        elif deed == "memory":
            raise MemoryError
        elif deed == "raise":
            raise ValueError("no such deed")
        elif deed == "hang":
            with time_limit(0.3):
                time.sleep(60)
        elif deed.startswith("SIG"):
            os.kill(os.getpid(), signal.Signals[deed])
            time.sleep(60)
    return list(deeds)


def blame(deed: str, death: Exception) -> list[str]:
    return [f"{deed}: {death}"]


def run(pool: WorkerPool, log: Path, *batches: Sequence[str]) -> list[str]:
    return [done for result in map_batches(pool, partial(act, log), batches, 3, blame) for done in result]


# One death


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        ("exit", "a worker process ended with exit code 3"),
        ("SIGSEGV", "a worker process ended with SIGSEGV"),
        ("SIGKILL", "a worker process ended with SIGKILL"),
        ("SIGABRT", "a worker process ended with SIGABRT"),
        ("hang", "a worker process ended with SIGALRM"),
        ("leave", "a worker process ended with exit code 0"),
    ],
)
def test_a_call_that_ends_its_worker_says_how(pool: WorkerPool, tmp_path: Path, deed: str, said: str) -> None:
    with pytest.raises(WorkerDiedError, match=said) as caught:
        pool.submit(act, tmp_path / "log", [deed]).result()
    assert caught.value.timed_out is (deed == "hang")
    assert isinstance(caught.value, BrokenProcessPool)


def test_a_death_costs_no_other_call_and_no_other_process(tmp_path: Path) -> None:
    with WorkerPool(2) as pool:
        slow = pool.submit(sleep_and_name, 1.0)
        fast = pool.submit(act, tmp_path / "log", ["exit"])
        queued = [pool.submit(sleep_and_name, 0.0) for _ in range(10)]
        assert isinstance(fast.exception(), WorkerDiedError)
        assert not slow.done()
        others = {future.result() for future in queued}
        survivor = slow.result()
        assert pool.submit(sleep_and_name, 0.0).result() in others | {survivor}


def sleep_and_name(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def test_an_exception_comes_back_with_its_traceback_and_the_worker_goes_on(tmp_path: Path) -> None:
    with WorkerPool(1) as pool:
        before = pool.submit(os.getpid).result()
        with pytest.raises(ValueError, match="no such deed") as caught:
            pool.submit(act, tmp_path / "log", ["raise"]).result()
        assert 'raise ValueError("no such deed")' in "".join(caught.value.__notes__)
        assert pool.submit(os.getpid).result() == before


def test_what_cannot_be_pickled_is_an_exception_and_no_death() -> None:
    with WorkerPool(1) as pool:
        before = pool.submit(os.getpid).result()
        with pytest.raises((TypeError, AttributeError), match="pickle"):
            pool.submit(open, os.devnull).result()
        assert pool.submit(os.getpid).result() == before
        with pytest.raises((TypeError, AttributeError), match="pickle"):
            pool.submit(print, lambda: None).result()
        assert pool.submit(os.getpid).result() > 0


def test_a_pool_goes_on_after_a_worker_was_killed() -> None:
    with WorkerPool(1) as pool:
        first = pool.submit(os.getpid).result()
        os.kill(first, signal.SIGKILL)
        while True:
            try:
                second = pool.submit(os.getpid).result()
                break
            except WorkerDiedError:  # the call that found it dead
                continue
        assert second != first


def test_a_pool_that_is_shut_down_leaves_no_process() -> None:
    with WorkerPool(2) as pool:
        pids = {pool.submit(sleep_and_name, 0.1).result() for _ in range(4)}
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    pool = WorkerPool(1)
    running = pool.submit(sleep_and_name, 0.5)
    pool.shutdown(wait=False)
    pid = running.result()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_death_leaves_no_descriptor(tmp_path: Path) -> None:
    with WorkerPool(1) as pool:
        pool.submit(act, tmp_path / "log", ["exit"]).exception()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            pool.submit(act, tmp_path / "log", ["exit"]).exception()
        assert len(os.listdir("/proc/self/fd")) <= before


def test_a_crash_leaves_no_core_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with WorkerPool(1) as pool:
        pool.submit(act, tmp_path / "log", ["SIGABRT"]).exception()
    assert list(tmp_path.glob("core*")) == []


# Batches


def test_results_come_in_order_and_never_too_many_are_in_flight() -> None:
    executor, ahead = InProcess(), []
    batches = ([str(number)] for number in range(20))
    results = map_batches(executor, list, batches, in_flight=3, blame=blame)
    for number, result in enumerate(results):
        assert result == [str(number)]
        ahead.append(executor.calls - number)
    assert max(ahead) == 3


@pytest.mark.parametrize("deed", ["exit", "leave", "SIGSEGV", "SIGKILL", "hang", "memory"])
def test_an_item_that_ends_its_worker_costs_nothing_but_itself(pool: WorkerPool, tmp_path: Path, deed: str) -> None:
    log = tmp_path / "log"
    done = run(pool, log, ["a", "b"], ["c", deed, "d"], ["e"])
    assert [entry.split(":")[0] for entry in done] == ["a", "b", "c", deed, "d", "e"]
    assert len([entry for entry in done if ":" in entry]) == 1
    tried = log.read_text().split()
    assert tried.count(deed) == 1 + TRIES_ALONE
    assert {entry: tried.count(entry) for entry in "abcde"} == {"a": 1, "b": 1, "c": 2, "d": 1, "e": 1}


def test_a_batch_of_nothing_but_crashes_ends(pool: WorkerPool, tmp_path: Path) -> None:
    done = run(pool, tmp_path / "log", ["exit"] * 3)
    assert done == ["exit: a worker process ended with exit code 3"] * 3
    assert len((tmp_path / "log").read_text().split()) == 1 + 3 * TRIES_ALONE


@pytest.mark.parametrize("kills", [1, TRIES_ALONE])
def test_a_worker_that_is_killed_from_outside_blames_nobody(tmp_path: Path, kills: int) -> None:
    with WorkerPool(1) as pool:
        results = map_batches(pool, partial(die_at_first, tmp_path, kills), [["a", "b"], ["c"]], 1, blame)
        assert [item for result in results for item in result] == ["a", "b", "c"]
    assert len(list(tmp_path.iterdir())) == kills


def die_at_first(marks: Path, kills: int, items: Sequence[str]) -> list[str]:
    done = len(list(marks.iterdir()))
    if done < kills:
        (marks / str(done)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return list(items)


def test_other_errors_are_not_swallowed(pool: WorkerPool, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such deed"):
        run(pool, tmp_path / "log", ["a", "raise"])
    assert (tmp_path / "log").read_text().split() == ["a", "raise"]


# Time


def test_a_limit_that_is_kept_ends_nothing_later() -> None:
    with WorkerPool(1) as pool:
        before = pool.submit(os.getpid).result()
        assert pool.submit(sleep_within, 0.3, 0.0).result() == "in time"
        pool.submit(time.sleep, 0.5).result()
        assert pool.submit(os.getpid).result() == before


def test_a_limit_holds_only_in_workers() -> None:
    assert sleep_within(0.01, 0.05) == "in time"
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def sleep_within(limit_s: float, seconds: float) -> str:
    with time_limit(limit_s):
        time.sleep(seconds)
    return "in time"


# What C libraries print


def test_what_c_libraries_print_is_kept_from_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerPool(1) as pool:
        assert pool.submit(complain_in_c).result() == "second line \N{REPLACEMENT CHARACTER}"
    assert "line" not in capfd.readouterr().err


def complain_in_c() -> str:
    from imgrec.storage.machine.stderr import take_stderr

    os.write(2, b"x" * 100_000 + b"\nfirst line\n\nsecond line \xff\n")
    said = take_stderr()
    assert take_stderr() == ""
    return said
