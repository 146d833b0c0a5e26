"""Chunks under way: begun as their turn comes, done in any order, mirrored as they are done."""

import logging
from collections.abc import Iterable
from queue import Empty, SimpleQueue

from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.flows.pipeline.report import Embedded
from imgrec.flows.pipeline.run import Run
from imgrec.tasks import steps
from imgrec.tasks.calls import Promise
from imgrec.tasks.executors.base import Executor
from imgrec.tasks.executors.errors import JobFailedError

# The registry takes up finished shards this many at a time, so that `imgrec status` shows a long ingest growing.
SHARDS_PER_MIRROR = 16
# When so many jobs have failed for good, it is hardly the fault of each of them.
FAILED_AT_MOST = 8
# How often whoever waits for a chunk looks whether it is to stop.
_TICK_S = 0.5

logger = logging.getLogger(__name__)


def embed_chunks(run: Run, executor: Executor, chunks: Iterable[WrittenChunk], total: int) -> Embedded:
    """Have chunks of `total` images embedded, and take up what comes of them.

    A job that fails is no reason for others not to go on, but for the run to end with its words after them.

    Raises:
        JobFailedError: a job failed for good; at once, where many did.
        ImgrecError, OSError: what would end the other chunks as well.
    """
    under_way = _UnderWay(run, total)
    try:
        for chunk in executor.begin(chunks):
            if chunk is not None:
                under_way.add(chunk)
            under_way.take_done(executor.in_flight - 1)
        under_way.take_done(0)
        if under_way.failed:
            raise under_way.failed[0]
    except BaseException:
        executor.stop()
        raise
    finally:  # also what is in flight when it is to stop
        under_way.end()
    return under_way.embedded


class _UnderWay:
    def __init__(self, run: Run, total: int) -> None:
        self.embedded = Embedded(0, 0)
        self.failed: list[JobFailedError] = []
        self._run, self._total = run, total
        self._running: dict[WrittenChunk, Promise[steps.Done]] = {}
        self._done: SimpleQueue[WrittenChunk] = SimpleQueue()
        self._finished: list[str] = []

    def add(self, chunk: WrittenChunk) -> None:
        """Begin a chunk."""
        promise = self._run.calls.submit(steps.embed, self._run.library.uuid, chunk.path, chunk.images)
        self._running[chunk] = promise
        self.embedded = Embedded(self.embedded.images, self.embedded.bytes + chunk.bytes)
        promise.add_done_callback(lambda _: self._done.put(chunk))

    def take_done(self, left: int) -> None:
        """Take up the chunks that are done; wait until no more than `left` are under way."""
        while self._running:
            try:
                chunk = self._done.get(len(self._running) > left, _TICK_S)
            except Empty:
                if len(self._running) <= left:
                    break
            else:
                self._take_or_tell(chunk)
                if len(self._finished) >= SHARDS_PER_MIRROR:
                    self._mirror()
            self._look_up()
        self._look_up()

    def end(self) -> None:
        """Wait for what is still under way; it fails for the reason that is raised already, or is told."""
        for chunk, promise in list(self._running.items()):
            try:
                promise.result()
            except Exception as error:  # noqa: BLE001 - another one is under way, which says why the run ends
                del self._running[chunk]
                logger.info("a chunk of %d images: %s", chunk.images, error)
            else:
                self._take(chunk)
        self._mirror()
        self._show()

    def _take_or_tell(self, chunk: WrittenChunk) -> None:
        try:
            self._take(chunk)
        except JobFailedError as error:
            self.failed.append(error)
            if len(self.failed) >= FAILED_AT_MOST:
                raise
            if self._running or len(self.failed) > 1:  # the first is what the run ends with
                logger.warning("%s (the other jobs go on)", error)

    def _take(self, chunk: WrittenChunk) -> None:
        done = self._running.pop(chunk).result()
        self._finished += done["shards"]
        if chunk.counts:
            self.embedded = Embedded(self.embedded.images + done["embedded"], self.embedded.bytes)

    def _mirror(self) -> None:
        if self._finished:
            self._run.calls.call(steps.mirror, self._run.library, self._finished)
            self._finished = []

    def _look_up(self) -> None:
        self._show()
        self._run.stop_if_asked()

    def _show(self) -> None:
        if self._total:
            self._run.calls.show_progress(self._run.progress.embedded, self._total)
