"""`imgrec up` from start to stop: a schedule over a folder that changes, a search, a dead driver."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleUpdate, DeploymentUpdate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from benchmarks.pictures import real_pictures
from imgrec.flows.cli.own_server import OwnServer, find_own_server
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry

pytestmark = pytest.mark.operations

WITHIN_S = 120.0


def wait_for(what: Callable[[], Any]) -> Any:
    until = time.monotonic() + WITHIN_S
    while not (found := what()):
        assert time.monotonic() < until, what
        time.sleep(0.5)
    return found


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnServer]:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS", "2")
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "1")
    monkeypatch.setenv("IMGREC_ORCHESTRATE", "prefect")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-P", "-m", "imgrec.flows.cli.main", "up", "--port", port])
    try:
        yield wait_for(lambda: process.poll() is None and find_own_server())
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert find_own_server() is None


def test_a_schedule_a_search_and_a_dead_driver(server: OwnServer, tmp_path: Path) -> None:
    photos, library = tmp_path / "photos", tmp_path / "library"
    photos.mkdir()
    pictures = real_pictures()
    for picture in pictures[:6]:
        (photos / picture.name).write_bytes(picture.read_bytes())
    address = {PREFECT_API_URL: f"{server.url}/api", PREFECT_API_AUTH_STRING: server.auth}
    with temporary_settings(address), get_client(sync_client=True) as client:
        wait_for(lambda: len(client.read_deployments()) == 6)
        ingest = client.read_deployment_by_name("ingest-images/ingest").id
        asked = {"images_root": str(photos), "library": str(library), "modalities": ["color"]}
        schedule(client, ingest, asked, every_s=20)
        first = wait_for(lambda: completed(client, ingest, 1))[0]
        assert first.name == "photos +6"

        (photos / pictures[0].name).rename(photos / f"renamed{pictures[0].suffix}")
        (photos / pictures[1].name).unlink()
        (photos / "new.png").write_bytes(pictures[7].read_bytes())
        (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing more")
        second = wait_for(lambda: [run for run in completed(client, ingest, 2) if "1 moved" in run.name])[0]
        assert second.name == "photos +2 \N{MINUS SIGN}1 1 moved"
        schedule(client, ingest, asked, every_s=None)
        assert states(library) == {"ok": 6, "failed": 1}

        search = client.read_deployment_by_name("search-images/search").id
        asking = {"queries": [str(photos / "new.png")], "library": str(library), "top_k": 3}
        run = client.create_flow_run_from_deployment(search, parameters=asking)
        wait_for(lambda: client.read_flow_run(run.id).state.is_completed())  # type: ignore[union-attr]
        (page,) = [found.data for found in client.read_artifacts() if found.key == "imgrec-hits"]
        assert str(page).count("data:image/webp;base64,") == 3

        for number in range(150):
            (photos / f"more-{number}.png").write_bytes(pictures[8].read_bytes() + bytes([number]))
        third = client.create_flow_run_from_deployment(ingest, parameters=asked)
        mark = f"writes:{open_library(library).uuid}"
        wait_for(lambda: mark in client.read_flow_run(third.id).tags)
        kill_driver(third.id)
        fourth = client.create_flow_run_from_deployment(ingest, parameters=asked)
        wait_for(lambda: client.read_flow_run(fourth.id).state.is_final())  # type: ignore[union-attr]
        dead, after = client.read_flow_run(third.id), client.read_flow_run(fourth.id)
        assert dead.state is not None and after.state is not None
        assert (dead.state.is_crashed(), after.state.is_completed()) == (True, True), (dead.state, after.state)
    assert states(library) == {"ok": 156, "failed": 1}


def schedule(client: SyncPrefectClient, deployment: UUID, parameters: dict[str, Any], every_s: int | None) -> None:
    ticks = []
    if every_s is not None:
        ticks = [DeploymentScheduleUpdate(schedule=IntervalSchedule(interval=timedelta(seconds=every_s)), active=True)]
    client.update_deployment(deployment, DeploymentUpdate(parameters=parameters, schedules=ticks))


def completed(client: SyncPrefectClient, deployment: UUID, count: int) -> list[FlowRun]:
    runs = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment])),
        sort=FlowRunSort.START_TIME_ASC,
    )
    assert not [run for run in runs if run.state is not None and run.state.is_failed()]
    done = [run for run in runs if run.state is not None and run.state.is_completed()]
    return done if len(done) >= count else []


def kill_driver(run: UUID) -> None:
    """Kill the process that has this flow run in its environment, but for the worker."""
    wanted = f"PREFECT__FLOW_RUN_ID={run}".encode()
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            found = wanted in place.read_bytes().split(b"\0")
        except OSError:
            continue
        if found:
            os.kill(int(place.parent.name), signal.SIGKILL)
            return
    raise AssertionError("the driver is not there")


def states(library: Path) -> dict[str, int]:
    with Registry.open_for_reading(library / "registry.sqlite") as registry:
        counts = registry.count_images()
    return {state: counts[state] for state in ("ok", "failed")}
