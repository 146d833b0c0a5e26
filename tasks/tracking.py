"""What runs were like, for MLflow. Tracking is worth having and never worth an ingest."""

import base64
import json
import logging
import os
import tempfile
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

EVALUATIONS = "imgrec-evaluate"
# Beside mlflow.db, which in a library makes it `Library.mlflow_artifacts_dir`.
ARTIFACTS = "mlflow-artifacts"
_LIBRARY_TAG = "imgrec.library_uuid"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunRecord:
    """A finished run; times are in seconds since 1970. `artifacts` are files, by name."""

    experiment: str
    name: str
    started_s: float
    parameters: Mapping[str, object]
    metrics: Mapping[str, float]
    ended_s: float = field(default_factory=time.time)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    parent_run_id: str | None = None


@dataclass(frozen=True)
class EarlierRun:
    """A run as MLflow has it; `started_s` is in seconds since 1970."""

    run_id: str
    name: str
    started_s: float
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class TrackedRun:
    """Where a run was logged."""

    tracking_uri: str
    experiment: str
    run_id: str
    experiment_id: str = ""


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
    artifacts = {name: base64.b64encode(content).decode() for name, content in record.artifacts.items()}
    write_atomic(path, json.dumps({**asdict(record), "artifacts": artifacts}, default=str).encode())


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


def earlier_runs(library: Library, experiment: str, count: int) -> list[EarlierRun]:
    """List the runs of an experiment that are of this library, the newest first; raises what MLflow raises."""
    uri = tracking_uri(library)
    if uri == sqlite_uri(library.mlflow_path) and not library.mlflow_path.exists():
        return []  # MLflow would make it
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    if (found := client.get_experiment_by_name(experiment)) is None:
        return []
    order = ["attributes.start_time DESC"]
    ours = f"tags.`{_LIBRARY_TAG}` = '{library.uuid}'"
    runs = client.search_runs([found.experiment_id], ours, max_results=count, order_by=order)
    return [
        EarlierRun(
            run.info.run_id, run.info.run_name or "", run.info.start_time / 1e3, run.data.params, run.data.metrics
        )
        for run in runs
    ]


def _read(path: Path) -> RunRecord:
    facts = json.loads(path.read_bytes())
    artifacts = {name: base64.b64decode(content) for name, content in facts.pop("artifacts", {}).items()}
    return RunRecord(**facts, artifacts=artifacts)


def _beside(uri: str) -> str | None:
    """Where files belong whose runs are in a database: beside it, or MLflow takes the working directory of today.

    None for a server, which knows itself.
    """
    from sqlalchemy import make_url

    if not uri.startswith("sqlite"):
        return None
    database = make_url(uri).database or ""
    return (Path(database).resolve().parent / ARTIFACTS).as_uri()


def _log(client: "MlflowClient", uri: str, library: Library, record: RunRecord) -> TrackedRun:
    from mlflow.entities import Metric, Param

    found = client.get_experiment_by_name(record.experiment)
    if found is None:
        experiment_id = client.create_experiment(record.experiment, artifact_location=_beside(uri))
    else:
        experiment_id = found.experiment_id
    tags = {"imgrec.library": str(library.root), _LIBRARY_TAG: library.uuid}
    if record.parent_run_id is not None:
        tags["mlflow.parentRunId"] = record.parent_run_id
    run = client.create_run(experiment_id, start_time=int(record.started_s * 1e3), tags=tags, run_name=record.name)
    ended = int(record.ended_s * 1e3)
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(value), ended, 0) for name, value in record.metrics.items()],
        params=[Param(name, str(value)) for name, value in record.parameters.items()],
    )
    with tempfile.TemporaryDirectory(prefix="imgrec-artifacts-") as folder:
        for name, content in record.artifacts.items():
            (Path(folder) / name).write_bytes(content)
            client.log_artifact(run.info.run_id, os.fspath(Path(folder) / name))
    client.set_terminated(run.info.run_id, end_time=ended)
    return TrackedRun(uri, record.experiment, run.info.run_id, experiment_id)
