"""Which failures are worth another try, and when."""

import errno
import logging
import sqlite3
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from prefect import Task
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import exponential_backoff

from imgrec.storage.errors import ImgrecError
from imgrec.storage.machine.refusals import refusal_of

# Trying again neither empties a disk nor raises a limit.
_PERMANENT_ERRNOS = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR, errno.EMFILE,
    errno.ENOMEM,
}  # fmt: skip

logger = logging.getLogger(__name__)


def is_passing(error: BaseException) -> bool:
    """Whether a failure may be over at the next try: a busy database, a network disk, a killed worker."""
    if isinstance(error, ImgrecError):
        return False
    if refusal_of(error) in _PERMANENT_ERRNOS:
        return False
    return isinstance(error, OSError | sqlite3.OperationalError | BrokenProcessPool)


def _should_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    # State.result() would raise outside of an async loop for some states; data carries the exception itself.
    error = state.data
    if not isinstance(error, BaseException) or not is_passing(error):
        return False
    logger.warning("%s failed for a passing reason and is tried again: %s", task_run.name, error)
    return True


# For @task(**RETRYING): 2, 4, 8, 16 s, each up to half longer, so that many jobs do not come back at once.
RETRYING: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": _should_retry,
}
