"""Worker processes: they start clean, leave Ctrl-C to their parent, and end when it dies."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cpus() -> int:
    """The CPUs this process may use, which on a cluster node are often fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerPool(Executor):
    """`workers` processes, started when there is work, and anew when one of them was killed.

    They come from a fork server that has imported the modules `preload` once for all of them. Never a plain fork: the
    driver has threads (Prefect's, BLAS's) whose locks a fork would copy half-held.
    """

    def __init__(self, workers: int, preload: Iterable[str] = ()) -> None:
        self.workers = workers
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(preload))
        self._executor: ProcessPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        with self._lock, _sigint_held():
            try:
                return self._started().submit(function, *args, **kwargs)
            except BrokenProcessPool:  # found broken before it took this call, so nothing runs twice
                self._executor = None
                return self._started().submit(function, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait, cancel_futures=cancel_futures)

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(self.workers, mp_context=self._context, initializer=_start_worker)
        return self._executor


def map_bounded(pool: Executor, function: Callable[[T], R], items: Iterable[T], in_flight: int) -> Iterator[R]:
    """Yield `function(item)` in the order of `items`, never holding more than `in_flight` of them."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= in_flight:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _sigint_held() -> Iterator[None]:
    """Let processes that start meanwhile, and theirs, not hear Ctrl-C even before they can ignore it."""
    resource_tracker.ensure_running()  # it lets SIGINT through again once it has started
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, name="imgrec-parent-watch", daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
