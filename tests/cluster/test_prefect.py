"""A cluster under Prefect: a chunk is a task run, whose end and words are its job's."""

import asyncio
import re
import signal
from collections.abc import Iterator
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, TaskRun
from prefect.testing.utilities import prefect_test_harness

from tests.cluster.conftest import Cluster, wait_until
from tests.cluster.moods import A_JOB, PHOTOS, Moods

# The fixture that a test asks for by its name.
from tests.cluster.moods import moods as moods


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from prefect.settings import get_current_settings

    with prefect_test_harness(server_startup_timeout=300):
        yield str(get_current_settings().api.url)


@pytest.fixture
def through_prefect(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", server)
    monkeypatch.setenv("IMGREC_ORCHESTRATE", "prefect")


async def last_run() -> tuple[FlowRun, list[TaskRun], list[str]]:
    """The last flow run, its embedding task runs, and what its log says."""
    async with get_client() as client:
        run = max(await client.read_flow_runs(), key=lambda one: one.created or 0)
        logs = await client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(str(run.id))])))
        tasks = [one for one in await client.read_task_runs() if one.flow_run_id == run.id]
    return run, [one for one in tasks if one.name.startswith("embed ")], [log.message for log in logs]


@pytest.mark.usefixtures("through_prefect")
def test_a_chunk_is_a_task_run_that_ends_as_its_job_and_says_what_it_said(moods: Moods) -> None:
    moods.set("raise-once")
    code, said = moods.ingest().end()
    assert code == 0, said
    run, embedding, log = asyncio.run(last_run())
    assert run.state_name == "Completed"
    assert len(embedding) == PHOTOS // A_JOB
    assert {one.state_name for one in embedding} == {"Completed"}
    assert sorted(one.run_count for one in embedding) == [1, 2]
    told = "\n".join(log)
    assert re.search(r"job \d+(_\d+)? on node\d embedded 12 of 12 images", told)
    assert "a disk in a bad mood" in told


@pytest.mark.usefixtures("through_prefect")
def test_ctrl_c_cancels_the_jobs(cluster: Cluster, moods: Moods) -> None:
    moods.set("seconds", 1)
    driver = moods.ingest()
    moods.wait_for_computed(3)
    driver.process.send_signal(signal.SIGINT)
    code, said = driver.end(60)
    assert code == 130, said
    wait_until(lambda: not cluster.queued(), "the jobs are cancelled", 20)
