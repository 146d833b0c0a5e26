"""What a run was like, for MLflow. Tracking is worth having and never worth an ingest."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from prefect import task
from prefect.cache_policies import NO_CACHE

from storage.library import Library

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """Where a run was logged."""

    tracking_uri: str
    experiment: str
    run_id: str


def tracking_uri(library: Library) -> str:
    """MLFLOW_TRACKING_URI, or else a database inside the library."""
    return os.environ.get("MLFLOW_TRACKING_URI") or library.mlflow_uri


@task(name="track", task_run_name="log {experiment} to MLflow", cache_policy=NO_CACHE)
def track(
    library: Library,
    experiment: str,
    run_name: str,
    started_s: float,
    parameters: Mapping[str, object],
    metrics: Mapping[str, float],
) -> TrackedRun | None:
    """Log one finished run, begun at `started_s` (seconds since 1970); None, and a warning, if that fails."""
    uri = tracking_uri(library)
    try:
        return _log(library, uri, experiment, run_name, started_s, parameters, metrics)
    except Exception as error:  # noqa: BLE001 - any failure of a tracking server is only a warning here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("MLflow at %s did not take the run, everything else is done: %s", uri, reason)
        return None


def _log(
    library: Library,
    uri: str,
    experiment: str,
    run_name: str,
    started_s: float,
    parameters: Mapping[str, object],
    metrics: Mapping[str, float],
) -> TrackedRun:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        artifacts = library.mlflow_artifacts_dir.resolve().as_uri() if uri == library.mlflow_uri else None
        experiment_id = client.create_experiment(experiment, artifact_location=artifacts)
    else:
        experiment_id = found.experiment_id
    tags = {"imgrec.library": str(library.root), "imgrec.library_uuid": library.uuid}
    run = client.create_run(experiment_id, start_time=int(started_s * 1e3), tags=tags, run_name=run_name)
    now = int(time.time() * 1e3)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(value), now, 0) for name, value in metrics.items()],
        params=[Param(name, str(value)) for name, value in parameters.items()],
    )
    client.set_terminated(run.info.run_id)
    return TrackedRun(uri, experiment, run.info.run_id)
