"""What the tasks of one running flow share and Prefect cannot carry: worker processes, executor, progress display."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from imgrec.storage.machine.pool import WorkerPool, available_cpus
from imgrec.tasks.executors.base import Executor
from imgrec.tasks.executors.in_process import InProcess


@dataclass(frozen=True)
class Driver:
    """`on_read(done, total)` hears of files read by the scan, `on_images(count)` of images that a stage is done with.

    `on_stage(what, images)` hears of stages that are not an ingest's; `images` is 0 where they are not counted.
    `on_progress(stage, done, total)` hears of the stages of an evaluation.
    """

    pool: WorkerPool | InProcess
    on_read: Callable[[int, int], None] = lambda done, total: None
    on_images: Callable[[int], None] = lambda count: None
    on_stage: Callable[[str, int], None] = lambda what, images: None
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None


_current: ContextVar[Driver] = ContextVar("imgrec_driver")
_executor: ContextVar[Executor] = ContextVar("imgrec_executor")


@contextmanager
def driving(
    workers: int | None,
    on_read: Callable[[int, int], None] = lambda done, total: None,
    on_images: Callable[[int], None] = lambda count: None,
    on_stage: Callable[[str, int], None] = lambda what, images: None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
    in_process: bool = False,
) -> Iterator[Driver]:
    """Give the tasks of this flow run `workers` processes (default: one a core), or none, where a debugger looks on."""
    pool = InProcess() if in_process else _processes(workers or available_cpus())
    token = _current.set(Driver(pool, on_read, on_images, on_stage, on_progress))
    try:
        yield _current.get()
    finally:
        _current.reset(token)
        pool.shutdown(wait=False, cancel_futures=True)


def current_driver() -> Driver:
    return _current.get()


@contextmanager
def embedding_by(executor: Executor) -> Iterator[Executor]:
    """Let the step `embed` use this executor meanwhile."""
    token = _executor.set(executor)
    try:
        yield executor
    finally:
        _executor.reset(token)
        executor.close()


def current_executor() -> Executor:
    return _executor.get()


def _processes(workers: int) -> WorkerPool:
    return WorkerPool(workers, preload=["imgrec.embedders.work.worker", "imgrec.storage.photos.probe"])
