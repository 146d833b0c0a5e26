"""What runs were like, for MLflow. Tracking is worth having and never worth an ingest."""

import json
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from imgrec.storage.library import Library
from imgrec.storage.machine.atomic import write_atomic

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """A finished run; times are in seconds since 1970."""

    experiment: str
    name: str
    started_s: float
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    ended_s: float = field(default_factory=time.time)


@dataclass(frozen=True)
class TrackedRun:
    """Where a run was logged."""

    tracking_uri: str
    experiment: str
    run_id: str


def tracking_uri(library: Library) -> str:
    """MLFLOW_TRACKING_URI, or else a database inside the library."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(library.mlflow_path)


def sqlite_uri(path: Path) -> str:
    """Name a database by a URI that MLflow and SQLAlchemy take for this very path, whatever its name."""
    from sqlalchemy import URL, make_url

    plain = f"sqlite:///{path}"
    if make_url(plain).database == str(path):
        return plain
    # Of "sqlite:///" MLflow makes the folder, by its quoted name; with a driver it leaves that to us.
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def postpone(library: Library, record: RunRecord) -> None:
    """Keep a run for the next one that is logged.

    Importing MLflow takes more than a second, which a run that had nothing to do should not cost.
    """
    path = library.postponed_runs_dir / f"{record.started_s:.6f}.json"
    write_atomic(path, json.dumps(asdict(record), default=str).encode())


def import_mlflow() -> None:
    """Import what `track` will need, which takes two seconds. What fails here fails there too, and is told."""
    with suppress(Exception):
        import mlflow

        if os.environ.get("MLFLOW_TRACKING_URI", "sqlite:").startswith("sqlite:"):
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def track(library: Library, record: RunRecord) -> TrackedRun | None:
    """Log postponed runs and this one; None, and a warning, if that fails: then this one is postponed too."""
    uri = tracking_uri(library)
    try:
        from mlflow import MlflowClient

        client = MlflowClient(uri)
        for path in sorted(library.postponed_runs_dir.glob("*.json")):
            _log(client, uri, library, _read(path))
            path.unlink()
        return _log(client, uri, library, record)
    except Exception as error:  # noqa: BLE001 - any failure of a tracking server is only a warning here
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        logger.warning("MLflow at %s did not take the run, which is kept for the next one: %s", uri, reason)
        postpone(library, record)
        return None


def _read(path: Path) -> RunRecord:
    return RunRecord(**json.loads(path.read_bytes()))


def _log(client: "MlflowClient", uri: str, library: Library, record: RunRecord) -> TrackedRun:
    from mlflow.entities import Metric, Param

    found = client.get_experiment_by_name(record.experiment)
    if found is None:
        artifacts = library.mlflow_artifacts_dir.resolve().as_uri() if uri == sqlite_uri(library.mlflow_path) else None
        experiment_id = client.create_experiment(record.experiment, artifact_location=artifacts)
    else:
        experiment_id = found.experiment_id
    tags = {"imgrec.library": str(library.root), "imgrec.library_uuid": library.uuid}
    run = client.create_run(experiment_id, start_time=int(record.started_s * 1e3), tags=tags, run_name=record.name)
    ended = int(record.ended_s * 1e3)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(value), ended, 0) for name, value in record.metrics.items()],
        params=[Param(name, str(value)) for name, value in record.parameters.items()],
    )
    client.set_terminated(run.info.run_id, end_time=ended)
    return TrackedRun(uri, record.experiment, run.info.run_id)
