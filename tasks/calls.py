"""How the pipeline calls its steps: the interface, and its plain side, which needs no orchestrator."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property
from typing import Any, ParamSpec, Protocol, TypeVar

from imgrec.tasks.retrying import delay_s, is_temporary

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

# Threads that wait for jobs of a cluster; whoever embeds chunks says how many of them are under way at once.
STEPS_AT_ONCE = 1_000

logger = logging.getLogger(__name__)


class Promise(Protocol[R_co]):
    """A step that runs; `result` waits for it and raises what it raised."""

    def result(self) -> R_co: ...

    def add_done_callback(self, hear: Callable[[Any], None], /) -> None:
        """Call `hear` when the step has ended, in whatever thread."""


class Calls(Protocol):
    """Whoever runs the steps of `tasks.steps`: each is tried again when it fails for a temporary reason."""

    def call(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a step and return its result."""

    def submit(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        """Start a step beside those that run."""

    def show_progress(self, done: int, total: int) -> None:
        """Tell whoever watches how many images are embedded."""

    def begin_writing(self, library_uuid: str) -> None:
        """Hear that this run is the only one that writes this library, from here to its end."""

    def show_outcome(self, name: str | None, tables: str) -> None:
        """Tell whoever watches what was done: a new name of the run, or None, and its closing tables in Markdown."""


class PlainCalls:
    """Steps called in this process.

    `retries` are those of a step, after its first try.
    """

    def __init__(self, retries: int) -> None:
        self._retries = retries

    def call(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        for tries in range(1, self._retries + 1):
            try:
                return step(*args, **kwargs)
            except Exception as error:
                if not is_temporary(error):
                    raise
                logger.warning("%s failed for a temporary reason and is tried again: %s", step.__name__, error)
            time.sleep(delay_s(tries))
        return step(*args, **kwargs)

    def submit(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        context = copy_context()  # the step finds its driver in the context of the caller

        def run() -> R:
            return context.run(lambda: self.call(step, *args, **kwargs))

        return self._threads.submit(run)

    def show_progress(self, done: int, total: int) -> None:
        """Nobody watches but the terminal, whose bar knows already."""

    def begin_writing(self, library_uuid: str) -> None:
        """No record of a dead run is left anywhere that would have to be closed."""

    def show_outcome(self, name: str | None, tables: str) -> None:
        """The command prints its report."""

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(STEPS_AT_ONCE, thread_name_prefix="imgrec-steps")
