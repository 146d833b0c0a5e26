"""The steps as Prefect tasks: cached, retried, one task run a call, watched in Prefect's UI."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Task, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff

from imgrec.embedders.work.worker import is_embedded
from imgrec.tasks import evaluation, exploring, steps
from imgrec.tasks.calls import Promise
from imgrec.tasks.flow_runs import close_dead_runs, show_outcome
from imgrec.tasks.retrying import FIRST_DELAY_S, JITTER, is_temporary
from imgrec.tasks.tracking import track

P = ParamSpec("P")
R = TypeVar("R")

# Grows when a chunk's result means something else.
TASK_VERSION = "2"
ARTIFACT_EVERY_S = 5.0

logger = logging.getLogger(__name__)
if (ours := logging.getLogger("imgrec")).level == logging.NOTSET:  # Prefect's default for others is WARNING
    ours.setLevel(logging.INFO)


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """One result a library and chunk: a digest alone would be shared by all libraries of the machine."""
    return f"imgrec-{parameters['library_uuid']}-{TASK_VERSION}-{Path(parameters['chunk_path']).stem}"


def _should_retry(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
    # State.result() would raise outside of an async loop for some states; data carries the exception itself.
    error = state.data
    if not isinstance(error, BaseException) or not is_temporary(error):
        return False
    logger.warning("%s failed for a temporary reason and is tried again: %s", task_run.name, error)
    return True


_RETRYING: dict[str, Any] = {
    "retry_delay_seconds": exponential_backoff(backoff_factor=int(FIRST_DELAY_S)),
    "retry_jitter_factor": JITTER,
    "retry_condition_fn": _should_retry,
}
_CACHED: dict[str, Any] = {"cache_key_fn": _cache_key, "persist_result": True, "result_serializer": "json"}
# Nothing but an embedded chunk is cached: the photos, shards and vectors are what they are now.
_NEVER: dict[str, Any] = {"cache_policy": NO_CACHE}

TASKS: dict[Callable[..., Any], Task[..., Any]] = {
    step: task(step, name=step.__name__, task_run_name=run_name, **_RETRYING, **caching)  # type: ignore[call-overload] # of a union
    for step, run_name, caching in (
        (steps.retry, "try failed images again", _NEVER),
        (steps.scan, "scan {library.roots}", _NEVER),
        (steps.adopt, "adopt shards", _NEVER),
        (steps.embed, "embed {images} images, {chunk_path.stem:.8}", _CACHED),
        (steps.mirror, "mirror shards", _NEVER),
        (steps.merge, "merge small {modality} shards", _NEVER),
        (steps.merge_thumbnails, "merge thumbnails", _NEVER),
        (steps.index, "index {name}", _NEVER),
        (steps.switch, "switch to the new vectors", _NEVER),
        (exploring.draw_map, "map {index}", _NEVER),
        (exploring.keep_thumbnails, "thumbnails", _NEVER),
        (exploring.write_map_page, "page of map {index}", _NEVER),
        (evaluation.measure_search, "measure searching", _NEVER),
        (evaluation.judge_labels, "judge by {plan.labels}", _NEVER),
        (evaluation.judge_copies, "judge by copies of {plan.copies} photos", _NEVER),
        (track, "log {record.experiment} to MLflow", _NEVER),
    )
}


class PrefectCalls:
    """Steps called as task runs of the flow run that is running; `retries` are those of each."""

    def __init__(self, retries: int) -> None:
        self._retries = retries
        self._artifact: UUID | None = None
        self._shown_s = 0.0

    def call(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._task(step)(*args, **kwargs)

    def submit(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        # A cached chunk counts only while the shards that it names verify.
        refresh = {"refresh_cache": not is_embedded(Path(str(args[1])))} if step is steps.embed else {}
        return self._task(step, **refresh).submit(*args, **kwargs)

    def show_progress(self, done: int, total: int) -> None:
        """Keep an artifact of the flow run up to date, every few seconds and at the end."""
        now = time.monotonic()
        if done < total and now - self._shown_s < ARTIFACT_EVERY_S:
            return
        self._shown_s = now
        percent = 100.0 * done / total
        if self._artifact is None:
            created = create_progress_artifact(percent, key="imgrec-ingest", description=f"{total:,} images to embed")
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent)

    def begin_writing(self, library_uuid: str) -> None:
        close_dead_runs(library_uuid)

    def show_outcome(self, name: str | None, tables: str) -> None:
        show_outcome(name, "imgrec-outcome", tables)

    def _task(self, step: Callable[P, R], **options: Any) -> Task[P, R]:
        return TASKS[step].with_options(retries=self._retries, **options)  # type: ignore[return-value] # it is that step's
