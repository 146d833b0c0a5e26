"""What the tasks of one running flow share and Prefect cannot carry: worker processes and the progress display."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from imgrec.storage.machine.pool import WorkerPool, available_cpus


@dataclass(frozen=True)
class Driver:
    """`on_read(done, total)` hears of files read by the scan, `on_images(count)` of images that a stage is done with.

    `on_stage(what, images)` hears of stages that are not an ingest's; `images` is 0 where they are not counted.
    `on_progress(stage, done, total)` hears of the stages of an evaluation.
    """

    pool: WorkerPool
    on_read: Callable[[int, int], None] = lambda done, total: None
    on_images: Callable[[int], None] = lambda count: None
    on_stage: Callable[[str, int], None] = lambda what, images: None
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None


_current: ContextVar[Driver] = ContextVar("imgrec_driver")


@contextmanager
def driving(
    workers: int | None,
    on_read: Callable[[int, int], None] = lambda done, total: None,
    on_images: Callable[[int], None] = lambda count: None,
    on_stage: Callable[[str, int], None] = lambda what, images: None,
    on_progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Iterator[Driver]:
    """Give the tasks of this flow run `workers` processes (default: one a core)."""
    pool = WorkerPool(
        workers or available_cpus(), preload=["imgrec.embedders.work.worker", "imgrec.storage.photos.probe"]
    )
    token = _current.set(Driver(pool, on_read, on_images, on_stage, on_progress))
    try:
        yield _current.get()
    finally:
        _current.reset(token)
        pool.shutdown(wait=False, cancel_futures=True)


def current_driver() -> Driver:
    return _current.get()
