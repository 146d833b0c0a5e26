"""Executors that packages bring, and the one for Dask on a cluster of two processes of this machine."""

from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest
from distributed import Client, LocalCluster

from imgrec.flows.pipeline.ingesting import ingest
from imgrec.tasks.calls import PlainCalls
from imgrec.tasks.executors.choosing import check_executor
from imgrec.tasks.executors.dask import DaskExecutor
from imgrec.tasks.executors.errors import JobFailedError, MissingExecutorError
from tests.cluster.libraries import vectors_of
from tests.embedders.work.test_worker import write_chunk, write_photos
from tests.flows.pipeline.test_ingesting import settings_of


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package's entry point, as an installed one has it; another of the same name where ours is installed is not."""
    info = tmp_path / "site" / "engine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imgrec.executors]\nengine = imgrec.tasks.executors.dask:create\n")
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as started,
        dask.config.set({"scheduler-address": started.scheduler_address}),
    ):
        yield started


@pytest.mark.usefixtures("plugged_in", "cluster")
def test_a_dask_cluster_makes_the_same_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    write_photos(photos := tmp_path / "photos", 6)
    here, there = tmp_path / "here", tmp_path / "there"
    ingest(settings_of(photos, here), PlainCalls(0))
    report = ingest(settings_of(photos, there, executor="engine", chunk_size=2), PlainCalls(0))
    assert report.embedded is not None
    assert report.embedded.images == 6
    one, other = vectors_of(here)["color"], vectors_of(there)["color"]
    assert {key: row.tobytes() for key, row in one.items()} == {key: row.tobytes() for key, row in other.items()}
    assert not (there / "chunks").exists() or not list((there / "chunks").iterdir())


def test_a_chunk_that_is_to_end_ends(cluster: LocalCluster, tmp_path: Path) -> None:
    chunk = write_chunk(tmp_path, write_photos(tmp_path / "photos", 4))
    embedded: list[int] = []
    executor = DaskExecutor(Client(cluster), tmp_path / "chunks", [], embedded.append)
    executor.stop()
    with pytest.raises(JobFailedError, match=rf"{chunk.name} ended with exit code (-15|143)") as told:
        executor.embed(chunk)
    executor.close()
    assert (told.value.temporary, embedded) == (False, [])


def test_who_is_not_there_is_told_with_those_that_are(plugged_in: None) -> None:
    check_executor("engine")
    with pytest.raises(MissingExecutorError, match=r"executor = ray: there are local, debug, slurm, .*engine"):
        check_executor("ray")
