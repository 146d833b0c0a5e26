"""Jobs, and a thread that looks after all of them: outcomes every second, SLURM every few."""

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.embedders.work.outcome import outcome_path
from imgrec.tasks.executors.errors import JobFailedError, SubmissionError
from imgrec.tasks.executors.slurm_states import IMPOSSIBLE, ODD, WAITING, JobState, cancel, find_ended, list_queued
from imgrec.tasks.executors.submitting import Work

LOOK_S = 0.5
# A file of another node may be seen late; then a job that SLURM calls completed is one that failed.
VISIBLE_S = 60.0
# How many lines of a job's log are told.
TAIL = 20

# What ends a job that did nothing wrong.
INNOCENT = {"TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED"}
# What its log says where accounting only knows that it failed.
_SUBMITTED = JobState("PENDING", "", "")
_OUT_OF_MEMORY = ("Exceeded job memory limit", "oom-kill", "oom_kill", "Out Of Memory")

# Its exit code, which is known.
_NOT_OURS = ("srun:", "slurmstepd:")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """A chunk as it is to be tried. `deaths` counts how its jobs died before without getting further.

    `done_before` is how many of its images were done at the start, `idle_tries` how often it did not get further.
    """

    chunk: WrittenChunk
    work: Work
    needs_gpu: bool
    number: int = 1
    done_before: int = 0
    idle_tries: int = 0
    deaths: int = 0


@dataclass
class Job:
    """A job of a chunk; `log` is its standard error. Ended without a `failure`, it has written an outcome.

    `is_told`: whether whoever waited for it has been told of its failure.
    """

    id: str
    attempt: Attempt
    log: Path
    state: JobState = _SUBMITTED
    failure: JobFailedError | SubmissionError | None = None
    begun: bool = False
    is_told: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    submitted_s: float = field(default_factory=time.monotonic)
    gone_s: float | None = None

    @property
    def chunk(self) -> WrittenChunk:
        return self.attempt.chunk

    @property
    def was_short_of_memory(self) -> bool:
        return self.state.state == "OUT_OF_MEMORY" or any(
            word in line for line in self.tail() for word in _OUT_OF_MEMORY
        )

    def tail(self, lines: int = TAIL) -> list[str]:
        """The last lines of its log."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 10_000))
                return file.read().decode(errors="replace").splitlines()[-lines:]
        except OSError:  # it never began, or its node does not write where we read
            return []

    def __str__(self) -> str:
        return f"job {self.id}" + (f" on {self.state.node}" if self.state.node else "")


class Watch:
    """`on_begun(job)` hears once of each job that begins, or ends without having been seen to begin."""

    def __init__(self, names: Iterable[str], poll_s: float, on_begun: Callable[[Job], None]) -> None:
        self.names = set(names)
        self._poll_s = poll_s
        self._on_begun = on_begun
        self._jobs: dict[Path, Job] = {}
        self._odd: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._asked_s = time.monotonic()
        self._thread: threading.Thread | None = None

    def add(self, jobs: Sequence[Job]) -> None:
        with self._lock:
            self._jobs |= {job.chunk.path: job for job in jobs}
            if self._thread is None:
                self._thread = threading.Thread(target=self._look_on, name="imgrec-jobs", daemon=True)
                self._thread.start()

    def alive(self) -> list[Job]:
        """The jobs that have not ended, as far as is known."""
        with self._lock:
            return [job for job in self._jobs.values() if not job.ended.is_set()]

    def close(self) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def fail(self, job: Job, failure: JobFailedError | SubmissionError) -> None:
        job.failure = failure
        self._end(job)

    def _look_on(self) -> None:
        while not self._closed.wait(LOOK_S):
            try:
                self._look(self.alive())
            except Exception as error:  # whoever waits must not wait for ever
                logger.exception("the jobs are watched no more")
                for job in self.alive():
                    self.fail(job, JobFailedError(f"{job} is watched no more: {error}", temporary=False))
                return

    def _look(self, jobs: Sequence[Job]) -> None:
        left = self._take_outcomes(jobs)
        if not left or time.monotonic() - self._asked_s < self._poll_s:
            return
        self._asked_s = time.monotonic()
        queued = list_queued(self.names)
        if queued is None:  # SLURM does not answer just now; outcomes still arrive
            return
        for job in left:
            if job.id in queued:
                self._see(job, queued[job.id])
        gone = [job for job in left if job.id not in queued and self._asked_s - job.submitted_s > self._poll_s]
        gone = self._take_outcomes(gone)
        ended = find_ended([job.id for job in gone]) if gone else {}
        for job in gone:
            self._judge(job, ended.get(job.id))

    def _take_outcomes(self, jobs: Sequence[Job]) -> list[Job]:
        """End the jobs whose outcome is there; return the others."""
        there = {entry.path for folder in {job.chunk.path.parent for job in jobs} for entry in os.scandir(folder)}
        left = []
        for job in jobs:
            if str(outcome_path(job.chunk.path)) in there:
                self._end(job)
            else:
                left.append(job)
        return left

    def _see(self, job: Job, state: JobState) -> None:
        """Take note of what squeue says."""
        if state.state in WAITING and state.reason in IMPOSSIBLE:
            cancel([job.id])
            reason = f"SLURM will never run {job} ({state.reason}): change slurm_… to what the cluster has"
            self.fail(job, SubmissionError(reason))
            return
        job.gone_s = None
        if state.state in WAITING:
            self._tell_odd(job, state.reason)
        if state != job.state:
            logger.info("%s: %s %s", job.id, state.state, state.node or state.reason)
        job.state = state
        if state.state not in WAITING:
            self._begin(job)

    def _tell_odd(self, job: Job, reason: str) -> None:
        """Tell, once for all jobs, of a reason to wait that may not pass by itself."""
        if reason in self._odd or not any(word in reason for word in ODD):
            return
        self._odd.add(reason)
        remedy = f"`scontrol release {job.id}` lets it go on" if "eld" in reason else f"`scontrol show job {job.id}`"
        logger.warning("%s may wait for ever, and others with it: %s (%s)", job, reason, remedy)

    def _judge(self, job: Job, state: JobState | None) -> None:
        """Decide what became of a job that is in the queue no more and has left no outcome."""
        first = job.gone_s is None
        job.gone_s = job.gone_s or self._asked_s
        if state is None or not state.is_final:  # accounting may be late
            if self._asked_s - job.gone_s > VISIBLE_S:
                self.fail(job, JobFailedError(f"{job} is gone, and SLURM does not say why", temporary=True))
            return
        job.state = state
        if state.state == "COMPLETED":
            if self._asked_s - job.gone_s > VISIBLE_S:
                where = job.chunk.path.parent
                told = f"{job} completed and left no outcome: does its node see the same {where} as this machine?"
                self.fail(job, JobFailedError(told, temporary=False))
        elif not first:  # one more look for the outcome of a job that refused its chunk
            self.fail(job, _failure(job))

    def _begin(self, job: Job) -> None:
        if not job.begun:
            job.begun = True
            self._on_begun(job)

    def _end(self, job: Job) -> None:
        job.ended.set()
        self._begin(job)


def _failure(job: Job) -> JobFailedError:
    said = [line.strip() for line in job.tail() if line.strip() and not line.startswith(_NOT_OURS)]
    what = f"{job} ended as {job.state.state}, {job.state.reason}"
    if job.was_short_of_memory:
        what += ": its memory was used up (slurm_mem_gb)"
    elif job.state.state == "TIMEOUT":
        what += ": its time was up (slurm_timeout_min)"
    elif job.state.state == "CANCELLED":
        what += ": somebody cancelled it; the next ingest computes what is missing"
    elif said and job.state.state not in INNOCENT:
        what += f": {said[-1]}"
    return JobFailedError(what, temporary=job.state.state != "CANCELLED")
