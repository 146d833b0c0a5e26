"""What is done otherwise when a job has failed: less at once, or fewer images, until one is found to end it."""

import logging
import re
import signal
from dataclasses import replace
from pathlib import Path

from imgrec.embedders.work.chunk import read_chunk
from imgrec.embedders.work.keeping import Keeper
from imgrec.storage.photos.paths import printable
from imgrec.storage.shards import EMBEDDER_FAILED
from imgrec.tasks.executors.errors import JobFailedError
from imgrec.tasks.executors.submitting import Work
from imgrec.tasks.executors.watching import INNOCENT, Attempt, Job

# How many images are under way at most when jobs die for the second time, and the fourth: one is the culprit.
WINDOWS: tuple[int | None, ...] = (None, 16, 1)
# Once may be the machine's fault.
DEATHS_IN_A_WINDOW = 2
# A chunk that the cluster takes away, or whose time is up, goes on so often without having got any further.
IDLE_TRIES = 10
# Signals that end a process that is at fault, or out of memory: as srun's exit code, and as a shell's.
_DEADLY = {
    code
    for number in (signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGKILL, signal.SIGSEGV)
    for code in (int(number), 128 + number)
}

logger = logging.getLogger(__name__)


def count_done(chunk_path: Path) -> int:
    """How many images of a chunk have an outcome that is kept."""
    return len(Keeper(chunk_path).done)


def goes_on(job: Job) -> bool:
    """Whether a failed job is submitted again at once, since that may well help: no failure of the chunk, then.

    A job that was taken away goes on elsewhere; one that got further may finish, or get further; one that died is tried
    with less, as long as there is less.
    """
    if not isinstance(job.failure, JobFailedError) or not job.failure.temporary:
        return False
    got_further = count_done(job.chunk.path) > job.attempt.done_before
    return got_further or has_died(job) or (job.state.state in INNOCENT and job.attempt.idle_tries < IDLE_TRIES)


def has_died(job: Job) -> bool:
    """Whether a signal ended the process, or its memory: it could not say what was wrong."""
    code = re.search(r"exit code (\d+):(\d+)", job.state.reason)
    killed = code is not None and (int(code[1]) in _DEADLY or int(code[2]) > 0)
    return job.was_short_of_memory or (job.state.state == "FAILED" and killed)


def try_otherwise(job: Job) -> Attempt:
    """Say what is to be submitted in place of a failed job."""
    before, done = job.attempt, count_done(job.chunk.path)
    got_further = done > before.done_before
    idle_tries = 0 if got_further else before.idle_tries + 1
    again = replace(before, number=before.number + 1, done_before=done, idle_tries=idle_tries)
    if not has_died(job):
        return again
    deaths = 1 if got_further else before.deaths + 1
    if job.was_short_of_memory and (less := _with_less(before.work)) != before.work:
        logger.warning(
            "%s had too little memory: its chunk is tried with model_batch_size = %d and %d workers (slurm_mem_gb)",
            job, less.model_batch_size, less.workers,
        )  # fmt: skip
        return replace(again, work=less)
    if deaths < DEATHS_IN_A_WINDOW:
        return replace(again, deaths=deaths)
    position = WINDOWS.index(before.work.window)
    if position + 1 < len(WINDOWS):
        return replace(again, deaths=0, work=replace(before.work, window=WINDOWS[position + 1]))
    _blame(job)
    return replace(again, deaths=0, work=replace(before.work, window=None), done_before=done + 1)


def _with_less(work: Work) -> Work:
    return replace(work, model_batch_size=max(1, work.model_batch_size // 2), workers=max(1, work.workers // 2))


def _blame(job: Job) -> None:
    """Give up on the one image that was under way whenever the job died."""
    keeper = Keeper(job.chunk.path)
    done = keeper.done
    image = next(entry for entry in read_chunk(job.chunk.path).pending if entry.content_hash not in done)
    reason = f"its job ended each time it came to this picture, alone ({job.state.state}, {job.state.reason})"
    logger.warning("%s gets no vectors: %s", printable(image.path), reason)
    keeper.fail(image.content_hash, EMBEDDER_FAILED, reason)
