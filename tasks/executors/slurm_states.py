"""What SLURM says of jobs: squeue while they are there, then sacct, and scontrol where there is no accounting."""

import logging
import os
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

# A command that hangs (a controller that restarts) must not hold up those that look after the results.
_COMMAND_S = 60

# https://slurm.schedmd.com/squeue.html#lbAG
WAITING = {
    "PENDING",
    "CONFIGURING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "RESV_DEL_HOLD",
    "SPECIAL_EXIT",
    "RESIZING",
}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT"}
# Reasons why a job that waits will wait for ever.
IMPOSSIBLE = {
    "AccountNotAllowed", "BadConstraints", "InvalidAccount", "InvalidQOS", "PartitionNodeLimit", "PartitionTimeLimit",
    "QOSNotAllowed", "AssocMaxCpuPerJobLimit", "AssocMaxMemPerJob", "QOSMaxCpuPerJobLimit", "QOSMaxMemoryPerJob",
    "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit", "MaxMemPerLimit",
}  # fmt: skip
# What reasons have in them that need somebody: a hold, nodes that are away, more asked for than any node has.
ODD = ("Held", "held", "PartitionConfig", "PartitionDown", "PartitionInactive", "NodeDown", "ReqNodeNotAvail")
# How sacct shows tasks of an array that ended before they began: 17_[0,4-8:2%3]
_TOGETHER = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")
# What scontrol calls the task of a record of several.
_NO_TASK = "4294967294"

logger = logging.getLogger(__name__)


class JobState(NamedTuple):
    """A job's state in SLURM's words, the node it is or was on, and why, or with which exit code."""

    state: str
    node: str
    reason: str

    @property
    def is_final(self) -> bool:
        return self.state not in WAITING | RUNNING


def list_queued(names: Iterable[str]) -> dict[str, JobState] | None:
    """Ask what is in the queue of the jobs with these names; None where SLURM does not answer."""
    told = _ask(["squeue", "--noheader", "--array", f"--name={','.join(names)}", "--format=%A|%F|%K|%T|%N|%r"])
    if told is None:
        return None
    rows = [line.split("|") for line in told.splitlines()]
    return {f"{array}_{task}" if task.isdigit() else job: JobState(*facts) for job, array, task, *facts in rows}


def find_ended(ids: Sequence[str]) -> dict[str, JobState]:
    """Ask what became of jobs that the queue does not know any more; what nobody knows is left out."""
    found = _from_accounting(ids)
    missing = [job_id for job_id in ids if job_id not in found or not found[job_id].is_final]
    return found | {job_id: state for job_id in missing if (state := _from_controller(job_id)) is not None}


def cancel(ids: Iterable[str]) -> None:
    """Cancel jobs; those that have ended are none of scancel's."""
    _ask(["scancel", *ids])


def keep_off(nodes: Iterable[str], ids: Iterable[str]) -> None:
    """Let jobs that wait not be started on these nodes."""
    for job_id in ids:
        _ask(["scontrol", "update", f"JobId={job_id}", f"ExcNodeList={','.join(nodes)}"])


def _from_accounting(ids: Sequence[str]) -> dict[str, JobState]:
    arrays = ",".join(sorted({job_id.partition("_")[0] for job_id in ids}))
    columns = "--format=JobID,State,NodeList,ExitCode"
    told = _ask(["sacct", "--noheader", "--allocations", "--parsable2", columns, f"--jobs={arrays}"])
    rows = [line.split("|") for line in (told or "").splitlines()]
    # "CANCELLED by 1000"
    return {
        job: JobState(state.partition(" ")[0], _node(node), f"exit code {code}")
        for shown, state, node, code in rows
        if state
        for job in _apart(shown)
    }


def _apart(shown: str) -> list[str]:
    together = _TOGETHER.fullmatch(shown)
    if together is None:
        return [shown]
    tasks: list[int] = []
    for span in together[2].split(","):
        ends, _, step = span.partition(":")
        first, _, last = ends.partition("-")
        tasks += range(int(first), int(last or first) + 1, int(step or 1))
    return [f"{together[1]}_{task}" for task in tasks]


def _from_controller(job_id: str) -> JobState | None:
    array, _, task = job_id.partition("_")
    told = _ask(["scontrol", "--oneliner", "show", "job", job_id]) or _ask(["scontrol", "-o", "show", "job", array])
    for line in (told or "").splitlines():
        facts: Mapping[str, str] = dict(word.split("=", 1) for word in line.split() if "=" in word)
        of = facts.get("ArrayTaskId", task)
        # One record stands for all tasks that never began.
        if "JobState" in facts and (of in (task, _NO_TASK) or not of.isdigit()):
            return JobState(facts["JobState"], _node(facts.get("NodeList", "")), f"exit code {facts.get('ExitCode')}")
    return None


def _node(told: str) -> str:
    return "" if told in {"None assigned", "(null)"} else told


def _ask(command: Sequence[str]) -> str | None:
    """Run a command of SLURM's; None, and a line in the log, where it fails."""
    whole = {**os.environ, "SLURM_BITSTR_LEN": "0"}  # else a long list of an array's tasks ends in dots
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_COMMAND_S, env=whole)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.info("%s: %s", command[0], error)
        return None
    if done.returncode:
        logger.info("%s: %s", command[0], done.stderr.strip())
        return None
    return done.stdout
