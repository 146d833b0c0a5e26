"""Worker processes: they start clean, leave Ctrl-C to their parent, end when it dies, and may die themselves."""

import multiprocessing
import os
import resource
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker, spawn
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

from imgrec.storage.machine.scratch import claim_sockets_folder
from imgrec.storage.machine.stderr import keep_stderr

T = TypeVar("T")
R = TypeVar("R")

# How often an item has to end its worker, alone there, before it is blamed: once may be the machine's fault.
TRIES_ALONE = 2
# A worker whose pipe is closed has nothing left to do; one that is still there then is killed.
_END_S = 2.0
# Two threads that look after one dead child at a time would both read its exit code, and one would get none.
_reaping = threading.Lock()


class WorkerDiedError(BrokenProcessPool):
    """A worker process ended during a call; `exitcode` is negative for a signal."""

    def __init__(self, exitcode: int) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode

    def __str__(self) -> str:
        how = signal.Signals(-self.exitcode).name if self.exitcode < 0 else f"exit code {self.exitcode}"
        return f"a worker process ended with {how}"

    @property
    def killed(self) -> bool:
        """Whether it was killed from outside."""
        return self.exitcode == -signal.SIGKILL

    @property
    def timed_out(self) -> bool:
        """Whether it was `time_limit` that ended it."""
        return self.exitcode == -signal.SIGALRM


def available_cpus() -> int:
    """The CPUs this process may use, which on a cluster node are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool(Executor):
    """`workers` processes, started when there is work; one that dies costs only the call that it was making.

    (The standard library's pool gives up all calls and processes when one dies, and cannot say which call it was.)
    They come from a fork server that has imported the modules `preload` once for all of them. Never a plain fork: the
    driver has threads (Prefect's, BLAS's) whose locks a fork would copy half-held.
    """

    def __init__(self, workers: int, preload: Iterable[str] = ()) -> None:
        claim_sockets_folder()
        self.workers = workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        # A thread waits for each call, so there are never more processes than threads.
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="imgrec-pool")
        self._idle: deque[_Worker] = deque()
        self._closed = False

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        """Call `function` in a worker; the future raises WorkerDiedError where that ended its process."""
        return self._threads.submit(self._call, function, args, kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._closed = True
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        self._end_idle()

    def _call(self, function: Callable[..., R], args: Any, kwargs: Any) -> R:
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker(self._context)
        try:
            answer = worker.call(function, args, kwargs)
        except EOFError:
            raise WorkerDiedError(worker.end()) from None
        except BaseException:  # it cannot be told what the worker does now
            worker.end()
            raise
        self._idle.append(worker)
        if self._closed:
            self._end_idle()
        error, result = answer
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return] # it came through a pipe

    def _end_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().end()
            except IndexError:  # another thread was quicker
                return


def map_batches(
    pool: Executor,
    function: Callable[[Sequence[T]], R],
    batches: Iterable[Sequence[T]],
    in_flight: int,
    blame: Callable[[T, Exception], R],
) -> Iterator[R]:
    """Yield `function(batch)` in the order of `batches`, never holding more than `in_flight` of them.

    A batch that ends its worker, or has no memory there, is taken apart: its items are tried one by one. For an item
    that fails so alone, twice, `blame(item, death)` stands in; all others have their results.
    """
    waiting: deque[tuple[Sequence[T], Future[R]]] = deque()
    for batch in batches:
        waiting.append((batch, pool.submit(function, batch)))
        if len(waiting) >= in_flight:
            yield from _results(pool, function, *waiting.popleft(), blame)
    while waiting:
        yield from _results(pool, function, *waiting.popleft(), blame)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End this worker process if the block takes longer; elsewhere there is no limit.

    A decoder that hangs does so in C, where no exception reaches it, so the kernel ends the process (SIGALRM).
    """
    if not _is_worker:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _results(
    pool: Executor,
    function: Callable[[Sequence[T]], R],
    batch: Sequence[T],
    future: Future[R],
    blame: Callable[[T, Exception], R],
) -> Iterator[R]:
    try:
        result = future.result()
    except (WorkerDiedError, MemoryError):
        for item in batch:
            yield _result_alone(pool, function, item, blame)
    else:
        yield result


def _result_alone(
    pool: Executor, function: Callable[[Sequence[T]], R], item: T, blame: Callable[[T, Exception], R]
) -> R:
    for _ in range(TRIES_ALONE):
        try:
            return pool.submit(function, [item]).result()
        except (WorkerDiedError, MemoryError) as error:
            death = error
    return blame(item, death)


class _Worker:
    """One process, and the pipe to it."""

    def __init__(self, context: ForkServerContext) -> None:
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="imgrec-worker", daemon=True)
        with _reaping, _sigint_held(), _main_left_out():
            self._process.start()
        theirs.close()

    def call(self, function: Callable[..., object], args: Any, kwargs: Any) -> Any:
        """Return (exception, result).

        Raises:
            EOFError: the process ended.
        """
        try:
            self._pipe.send((function, args, kwargs))
            return self._pipe.recv()
        except ConnectionError as error:
            raise EOFError from error

    def end(self) -> int:
        """Make sure that the process is gone; return its exit code."""
        self._pipe.close()
        with _reaping:
            self._process.join(_END_S)
            if self._process.exitcode is None:
                self._process.kill()
                self._process.join()
        return int(self._process.exitcode or 0)


_is_worker = False


def _serve(pipe: "Connection[Any, Any]") -> None:
    """Make calls until the pipe is closed."""
    _start_worker()
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((None, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001 - the caller gets it, with where it came from
            error.add_note(traceback.format_exc())
            pipe.send((error, None))


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Let processes that start meanwhile, and theirs, not hear Ctrl-C even before they can ignore it."""
    resource_tracker.ensure_running()  # it lets SIGINT through again once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_left_out() -> Iterator[None]:
    """Let processes that start meanwhile not run the caller's script again, as multiprocessing has them do.

    Nothing of ours is in it. A notebook or standard input has no file to run, and a script that calls `imgrec.ingest`
    without `if __name__ == "__main__"` would call it in each worker.
    """
    prepare = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, object]:
        return {key: value for key, value in prepare(name).items() if not key.startswith("init_main")}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = prepare


def _start_worker() -> None:
    global _is_worker
    _is_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    keep_stderr()
    threading.Thread(target=_exit_with_parent, name="imgrec-parent-watch", daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
