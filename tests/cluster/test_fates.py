"""What can become of a job, and what the ingest makes of it: the same library, or a line that says why not."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.conftest import Cluster, wait_until
from tests.cluster.moods import A_JOB, PHOTOS, Moods

# Where the fixture `moods` is; a test that asks for it imports it.
from tests.cluster.moods import moods as moods

pytestmark = pytest.mark.usefixtures("cluster")


def assert_complete(moods: Moods, code: int, said: str) -> None:
    assert code == 0, said
    assert moods.outcomes() == (PHOTOS, [])


def test_a_job_that_raises_is_tried_again_alone(moods: Moods) -> None:
    moods.set("raise-once")
    code, said = moods.ingest().end()
    assert_complete(moods, code, said)
    assert re.search(r"embed failed for a temporary reason and is tried again: job \d+_\d+ on node\d ended as", said)
    assert "a disk in a bad mood" in said
    assert sum(moods.computed().values()) < PHOTOS + A_JOB


def test_a_job_whose_process_is_killed_is_submitted_again(moods: Moods) -> None:
    moods.set("kill-once")
    code, said = moods.ingest().end()
    assert_complete(moods, code, said)
    assert re.search(r"job \d+_\d+ on node\d ended as FAILED, exit code (9|137):0", said)


def test_a_job_that_somebody_cancels_is_told_and_the_other_goes_on(cluster: Cluster, moods: Moods) -> None:
    """None of its pictures is computed a third time; that its last part is kept is for tests/embedders/work to say,
    since it may be ended before it has one."""
    moods.set("seconds", 1)
    driver = moods.ingest()
    moods.wait_for_computed(2 * A_JOB - 3)
    moods.set("seconds", 3)
    slower = min(moods.computed_by().items(), key=lambda of: of[1])[0]
    told = cluster.run("squeue", "-h", "-r", "-o", "%A %i")  # of an array, one job has the array's own id
    victim = dict(line.split() for line in told.splitlines())[slower]
    cluster.run("scancel", victim)
    moods.set("seconds", 0)
    code, said = driver.end()
    assert code == 1
    assert re.search(rf"imgrec: error: job {victim} on node\d ended as CANCELLED", said.splitlines()[-1]), said
    assert moods.outcomes() == (A_JOB, [])
    assert_complete(moods, *moods.ingest().end())
    assert max(moods.computed().values()) <= 2
    assert sum(moods.computed().values()) <= PHOTOS + A_JOB


def test_a_job_that_waits_for_somebody_is_told_and_may_be_cancelled(
    cluster: Cluster, moods: Moods, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMGREC_SLURM_PARAMETERS", '{"hold": true}')
    driver = moods.ingest()
    wait_until(lambda: "JobHeldUser" in driver.said, "the driver tells that they are held")
    told = r"job (\d+_\d+) may wait for ever, and others with it: JobHeldUser \(`scontrol release \1`"
    assert re.search(told, driver.said)
    cluster.run("scancel", *cluster.queued())
    code, said = driver.end()
    assert code == 1
    assert re.search(r"imgrec: error: job \d+_\d ended as CANCELLED", said.splitlines()[-1]), said
    assert len(set(re.findall(r"job (\S+) ended as", said))) == PHOTOS // A_JOB  # none was submitted again
    assert said.count("may wait for ever") == 1


def test_a_job_over_its_memory_is_told_and_tried_with_less(moods: Moods) -> None:
    moods.set("eat-once")
    code, said = moods.ingest().end()
    assert_complete(moods, code, said)
    assert "its memory was used up (slurm_mem_gb)" in said
    assert "its chunk is tried with model_batch_size = 16 and 1 workers" in said


def test_a_job_whose_time_is_up_goes_on_behind_its_last_part(cluster: Cluster, moods: Moods) -> None:
    """It is told so by the signal that SLURM sends ahead of the limit."""
    moods.set("seconds", 1.2)
    driver = moods.ingest()
    moods.wait_for_computed(6)
    for job_id in cluster.running():
        cluster.run("scancel", "--signal=USR2", job_id)
    assert_complete(moods, *driver.end())


def test_a_job_that_is_preempted_goes_on_later(cluster: Cluster, moods: Moods) -> None:
    moods.set("seconds", 0.5)
    driver = moods.ingest()
    moods.wait_for_computed(2)
    taken = cluster.running()
    for _ in range(4):
        cluster.run("sbatch", "-p", "urgent", "--exclusive", "--mem=100M", "-o", "/dev/null", "--wrap", "sleep 5")
    wait_until(lambda: not set(taken) & set(cluster.running()), "the jobs are pre-empted")
    code, said = driver.end()
    assert_complete(moods, code, said)
    assert "failed" not in said


def test_a_job_whose_node_dies_goes_on_elsewhere(cluster: Cluster, moods: Moods) -> None:
    moods.set("seconds", 0.5)
    driver = moods.ingest()
    moods.wait_for_computed(2)
    node = next(node for state, node in cluster.queued().values() if state == "RUNNING")
    os.kill(cluster.daemon(node), signal.SIGKILL)
    cluster.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")
    try:
        assert_complete(moods, *driver.end())
    finally:
        cluster.start_node(node)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("CONSTRAINT", "a100", "Invalid feature specification"),
        ("MEM_GB", "64", "Memory specification can not be satisfied"),
    ],
)
def test_what_slurm_does_not_take_is_told_in_its_words(
    moods: Moods, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"IMGREC_SLURM_{setting}", value)
    code, said = moods.ingest().end()
    assert code == 1
    assert reason in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("imgrec: error: SLURM does not take the jobs: ")


def test_what_slurm_would_never_run_is_told(cluster: Cluster, moods: Moods) -> None:
    cluster.run("scontrol", "update", "PartitionName=main", "MaxTime=10")
    try:
        code, said = moods.ingest().end()
    finally:
        cluster.run("scontrol", "update", "PartitionName=main", "MaxTime=INFINITE")
    assert code == 1
    assert re.search(r"imgrec: error: SLURM .*(PartitionTimeLimit|time limit)", said.splitlines()[-1]), said
    wait_until(lambda: not cluster.queued(), "the jobs are cancelled")


def test_without_accounting_results_arrive_and_the_dead_are_noticed(
    moods: Moods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sacct = tmp_path / "bin" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{sacct.parent}:{os.environ['PATH']}")
    moods.set("kill-once")
    code, said = moods.ingest().end()
    assert_complete(moods, code, said)
    assert re.search(r"job \d+_\d+ on node\d ended as FAILED, exit code (9|137):0", said)


def test_a_picture_that_ends_its_job_each_time_is_found(moods: Moods) -> None:
    moods.set("poison", 17)
    code, said = moods.ingest().end()
    assert code == 0, said
    embedded, reasons = moods.outcomes()
    assert embedded == PHOTOS - 1
    (reason,) = reasons
    assert reason.startswith("its job ended each time it came to this picture, alone")
    assert "17.png gets no vectors" in said
    assert 17 not in moods.computed()


def test_a_node_on_which_everything_fails_gets_no_more(cluster: Cluster, moods: Moods) -> None:
    moods.set("bad-node", "node1")
    driver = moods.ingest("--chunk-size", 3)
    code, said = driver.end()
    assert_complete(moods, code, said)
    assert "node1 gets no more jobs: 2 failed there and none went well" in said


def test_jobs_outlive_their_driver_and_the_next_one_takes_them_over(cluster: Cluster, moods: Moods) -> None:
    moods.set("seconds", 1)
    driver = moods.ingest()
    moods.wait_for_computed(4)
    moods.set("seconds", 20)
    running = set(cluster.running())
    driver.process.kill()
    driver.end()
    time.sleep(1)
    assert set(cluster.running()) == running
    driver = moods.ingest()
    wait_until(lambda: "going on with" in driver.said, "the next run has found the jobs")
    moods.set("seconds", 0)
    code, said = driver.end()
    assert_complete(moods, code, said)
    assert f"going on with {len(running)} jobs of an earlier run" in said
    assert set(moods.computed().values()) == {1}
    assert not (moods.library / "submissions").exists()


def test_ctrl_c_cancels_the_jobs_and_the_next_run_goes_on(cluster: Cluster, moods: Moods) -> None:
    moods.set("seconds", 1)
    driver = moods.ingest()
    moods.wait_for_computed(4)
    driver.process.send_signal(signal.SIGINT)
    code, said = driver.end(30)
    assert code == 130, said
    wait_until(lambda: not cluster.queued(), "the jobs are cancelled", 20)
    moods.set("seconds", 0)
    assert_complete(moods, *moods.ingest().end())
