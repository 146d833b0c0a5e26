"""An ingest: what Prefect and MLflow see of it, and what survives their failures."""

import errno
import os
import sqlite3
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.client.schemas.sorting import FlowRunSort, TaskRunSort

from imgrec.flows.ingest_images import ingest_images
from imgrec.flows.pipeline import chunks
from imgrec.flows.pipeline.report import RunReport
from imgrec.flows.search_images import search_images
from imgrec.search import Searcher
from imgrec.storage import scan
from imgrec.storage.errors import LibraryLockedError
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import ScanReport
from imgrec.storage.shards import list_shards, read_shard
from imgrec.tasks import steps
from imgrec.tasks.retrying import is_temporary
from tests.plain import ingest
from tests.storage.pictures import wait_for_another_ctime


def test_shards_and_blobs_hold_the_same_bytes(photos: Path, library: Path) -> None:
    ingest(photos, library, chunk_size=4, workers=2)
    shards = [read_shard(path) for path in list_shards(library / "shards")]
    assert sorted(len(shard.content_hashes) for shard in shards) == [2, 4]
    in_shards = {
        content_hash: vector.tobytes()
        for shard in shards
        for content_hash, vector in zip(shard.content_hashes, shard.vectors, strict=True)
    }
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        in_registry = dict(
            registry.connection.execute(
                "SELECT content_hash, vector FROM images JOIN color_vectors ON image_id = id"
            ).fetchall()
        )
    assert in_shards == in_registry


def test_chunk_size_and_workers_change_no_vector(photos: Path, tmp_path: Path) -> None:
    def vectors(name: str, **settings: Any) -> dict[str, bytes]:
        ingest(photos, tmp_path / name, **settings)
        with Registry.open_for_reading(tmp_path / name / "registry.sqlite") as registry:
            return dict(
                registry.connection.execute("SELECT path, vector FROM images JOIN color_vectors ON image_id = id")
            )

    assert vectors("one", chunk_size=1, workers=1) == vectors("other", chunk_size=512, workers=3)


@pytest.mark.usefixtures("through_prefect")
def test_one_task_run_a_chunk_with_readable_names(photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_CHUNKS", 2)  # chunks grow instead
    report = ingest_images(photos, library, settings={"chunk_size": 1})
    assert embedded(report) == 6
    with get_client(sync_client=True) as client:
        newest, tasks = newest_run(client)
        artifacts = client.request(
            "POST",
            "/artifacts/filter",
            json={
                "artifacts": ArtifactFilter(key=ArtifactFilterKey(any_=["imgrec-ingest"])).model_dump(mode="json"),
                "flow_runs": FlowRunFilter(id=FlowRunFilterId(any_=[newest.id])).model_dump(mode="json"),
            },
        ).json()
        names = sorted(run.name for run in tasks)
        for _ in range(50):  # what names a task run reaches the server as an event, after the flow may be over
            if "log imgrec-ingest to MLflow" in names:
                break
            time.sleep(0.2)
            names = sorted(run.name for run in newest_run(client)[1])
    assert [name for name in names if name.startswith("embed 3 images")] == [n for n in names if n.startswith("embed")]
    assert len([name for name in names if name.startswith("embed")]) == 2
    assert {"index color", f"scan {photos}", "log imgrec-ingest to MLflow"} <= set(names)
    assert [artifact["data"] for artifact in artifacts] == [100.0]


def newest_run(client: SyncPrefectClient) -> tuple[FlowRun, list[TaskRun]]:
    """The flow run that started last, and its task runs."""
    (newest,) = client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)
    its_own = FlowRunFilter(id=FlowRunFilterId(any_=[newest.id]))
    return newest, client.read_task_runs(flow_run_filter=its_own, sort=TaskRunSort.ID_DESC, limit=50)


@pytest.mark.usefixtures("through_prefect")
def test_a_step_that_failed_for_a_temporary_reason_is_tried_again_in_its_task_run(
    photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError(errno.EIO, "Input/output error")])

    def scan_photos(*arguments: Any, **named: Any) -> ScanReport:
        for error in failures:
            raise error
        return scan.scan_photos(*arguments, **named)

    monkeypatch.setattr(steps, "scan_photos", scan_photos)
    assert ingest_images(photos, library).images["ok"] == 6
    with get_client(sync_client=True) as client:
        _, tasks = newest_run(client)
    tries = {run.name: (run.run_count, run.state_name) for run in tasks}
    assert tries[f"scan {photos}"] == (2, "Completed")
    assert {count for count, _ in tries.values()} == {1, 2}


@pytest.mark.usefixtures("own_mlflow")
def test_mlflow_has_the_run(photos: Path, library: Path) -> None:
    from mlflow import MlflowClient

    report = ingest(photos, library)
    assert report.tracked is not None
    run = MlflowClient(report.tracked.tracking_uri).get_run(report.tracked.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["color.hnsw_m"] == "24"
    assert run.data.params["color.fingerprint"]
    assert run.data.metrics["embed.images"] == 6
    assert run.data.metrics["index.color.recall_at_10"] == 1.0
    assert {"scan.seconds", "embed.seconds", "index.seconds", "embed.images_per_s", "bytes.shards"} <= set(
        run.data.metrics
    )


def test_a_broken_tracking_server_loses_no_ingest(photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        broken.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        report = ingest(photos, library)
    assert report.tracked is None
    assert report.images["ok"] == 6
    (photos / "cell.png").unlink()
    assert len(runs_of(ingest(photos, library))) == 2  # the one that was not taken is not lost


def test_a_run_that_had_nothing_to_do_is_logged_with_the_next(photos: Path, library: Path) -> None:
    for path in photos.iterdir():
        os.utime(path, (0, 0))
    assert len(runs_of(ingest(photos, library))) == 1
    idle = ingest(photos, library)
    assert (idle.did_nothing, idle.tracked) == (True, None)
    (photos / "cell.png").unlink()
    assert len(runs_of(ingest(photos, library))) == 3


def embedded(report: RunReport) -> int:
    assert report.embedded is not None
    return report.embedded.images


def runs_of(report: RunReport, experiment_name: str = "imgrec-ingest") -> list[Any]:
    """The library's runs of an experiment, as MLflow has them."""
    from mlflow import MlflowClient

    assert report.tracked is not None
    client = MlflowClient(report.tracked.tracking_uri)
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        return []
    uuid = open_library(Path(report.library)).uuid
    return list(client.search_runs([experiment.experiment_id], f"tags.`imgrec.library_uuid` = '{uuid}'"))


@pytest.mark.usefixtures("prefect_server")
def test_the_search_flow_answers_and_logs_its_timings(photos: Path, library: Path) -> None:
    report = ingest(photos, library)
    (answer,) = search_images([str(photos / "cell.png")], library, top_k=2)
    assert answer.hits[0].path == "cell.png"
    assert runs_of(report, "imgrec-search") == [], "nobody who searches waits for MLflow"
    (photos / "again.png").write_bytes((photos / "cell.png").read_bytes() + b"trailing")
    ingest(photos, library)
    (run,) = runs_of(report, "imgrec-search")
    assert run.data.params["index_version"] == answer.version
    assert (run.data.params["ef_search"], run.data.params["top_k"]) == ("16", "2")
    assert all(run.data.metrics[step] > 0 for step in ("decode_ms", "embed_ms", "search_ms"))


def test_shards_without_a_mirror_are_adopted_and_nothing_is_computed_twice(photos: Path, library: Path) -> None:
    ingest(photos, library, chunk_size=3)
    for name in ("registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"):
        (library / name).unlink(missing_ok=True)
    (photos / "more.png").write_bytes((photos / "cell.png").read_bytes() + b"trailing")

    report = ingest(photos, library, chunk_size=2)

    assert (embedded(report), report.images["ok"]) == (1, 7)


@pytest.mark.usefixtures("through_prefect")
def test_a_damaged_shard_is_computed_again(photos: Path, library: Path) -> None:
    ingest_images(photos, library)
    (shard,) = list_shards(library / "shards")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    shard.write_bytes(damaged)
    for name in ("registry.sqlite", "registry.sqlite-wal", "registry.sqlite-shm"):
        (library / name).unlink(missing_ok=True)

    report = ingest_images(photos, library)

    assert (embedded(report), report.images["ok"]) == (6, 6)


def test_a_damaged_shard_comes_back_from_the_registry(photos: Path, library: Path) -> None:
    ingest(photos, library, chunk_size=2)
    first, second, _ = list_shards(library / "shards")
    wait_for_another_ctime(library)
    damaged = bytearray(first.read_bytes())
    damaged[len(damaged) // 3] ^= 1
    first.write_bytes(damaged)
    second.unlink()

    report = ingest(photos, library)

    assert embedded(report) == 0
    held = [h for path in list_shards(library / "shards") for h in read_shard(path).content_hashes]
    assert len(set(held)) == len(held) == 6


def test_a_registry_of_yesterday_is_brought_up_to_date(photos: Path, library: Path) -> None:
    late = [path.rename(path.with_suffix(".later")) for path in sorted(photos.iterdir())[:3]]
    ingest(photos, library)
    with sqlite3.connect(library / "registry.sqlite") as registry, sqlite3.connect(library / "copy") as copy:
        registry.backup(copy)
    registry.close()
    copy.close()
    for path in late[:2]:
        path.rename(path.with_suffix(".png"))
    ingest(photos, library)
    for name in ("registry.sqlite-wal", "registry.sqlite-shm"):
        (library / name).unlink(missing_ok=True)
    (library / "copy").replace(library / "registry.sqlite")
    late[2].rename(late[2].with_suffix(".png"))

    report = ingest(photos, library)

    assert (embedded(report), report.images["ok"]) == (1, 6)
    with Searcher(library) as searcher:
        for path in photos.iterdir():
            (hit,) = searcher.search([path], top_k=1)[0].hits
            assert hit.path == path.name
            assert searcher.search([f"id:{hit.id}"], top_k=1)[0].hits[0].id == hit.id


@pytest.mark.usefixtures("through_prefect")
def test_the_same_photos_in_two_libraries(photos: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        report = ingest_images(photos, tmp_path / name)
        assert embedded(report) == 6
        assert len(list(list_shards(tmp_path / name / "shards"))) == 1


@pytest.mark.usefixtures("through_prefect")
def test_a_second_writer_is_refused(photos: Path, library: Path) -> None:
    with writer_lock(library), pytest.raises(LibraryLockedError, match=f"process {os.getpid()} on .* since"):
        ingest_images(photos, library)


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (OSError("AF_UNIX path too long"), False),
        (OSError(errno.ENAMETOOLONG, "too long"), False),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (OSError(errno.ESTALE, "a network disk"), True),
        (OSError(5, "I/O"), True),
        (OSError(28, "full"), False),
        (OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"), False),
        (RuntimeError("Error in faiss::FileIOWriter: write error in x: 0 != 1 (No space left on device)"), False),
        (MemoryError(), False),
        (BrokenProcessPool(), True),
        (LibraryLockedError("held"), False),
        (KeyError(), False),
    ],
)
def test_only_what_may_pass_is_tried_again(error: Exception, temporary: bool) -> None:
    assert is_temporary(error) is temporary
