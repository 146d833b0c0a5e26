"""What earlier runs left: chunks that nobody works on any more, and jobs that go on without their driver."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from imgrec.embedders.work.keeping import salvage
from imgrec.embedders.work.outcome import outcome_path
from imgrec.storage.library import Library
from imgrec.tasks.executors.slurm_states import list_queued
from imgrec.tasks.executors.submission import Recorded, Submission

logger = logging.getLogger(__name__)


class Leftover(NamedTuple):
    """A submission whose jobs are still queued or running, and these, by their chunks."""

    submission: Submission
    jobs: Mapping[Path, Recorded]


def settle_leftovers(library: Library) -> list[Leftover]:
    """Bring into the library what is done of chunks that nobody works on, and remove them; return what is alive."""
    if library.chunks_dir.is_dir():
        salvage(sorted(library.chunks_dir.glob("*.json")))
        shutil.rmtree(library.chunks_dir, ignore_errors=True)
    submissions = Submission.list(library.submissions_dir)
    if not submissions:
        return []
    queued = list_queued(submission.job_name for submission in submissions)
    if queued is None:
        logger.warning(
            "jobs of earlier runs may be at work on this library, and SLURM does not answer here: what they work on is "
            "computed twice (%s)", library.submissions_dir,
        )  # fmt: skip
        return []
    recorded = {path: job for submission in submissions for path, job in submission.recorded().items()}
    alive = {path for path, job in recorded.items() if job.job_id in queued and not outcome_path(path).exists()}
    kept = []
    for submission in submissions:
        salvage(path for path in submission.chunk_paths() if path not in alive)
        mine = {path: job for path, job in submission.recorded().items() if path in alive and recorded[path] == job}
        if mine or alive.intersection(submission.chunk_paths()):
            kept.append(Leftover(submission, mine))
        else:
            submission.remove()
    return kept
