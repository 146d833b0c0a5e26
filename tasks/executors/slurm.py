"""Chunks embedded as jobs of a SLURM cluster, a job a chunk."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import WrittenChunk, read_chunk
from imgrec.embedders.work.keeping import salvage
from imgrec.embedders.work.outcome import ChunkOutcome, read_outcome
from imgrec.tasks.executors.errors import JobFailedError
from imgrec.tasks.executors.leftovers import Leftover
from imgrec.tasks.executors.second_tries import count_done, goes_on, try_otherwise
from imgrec.tasks.executors.slurm_states import cancel, keep_off
from imgrec.tasks.executors.submission import Recorded, Submission
from imgrec.tasks.executors.submitting import Request, Work, log_path, max_array_size, script, submit
from imgrec.tasks.executors.watching import INNOCENT, Attempt, Job, Watch

# As many threads wait for jobs; `Request.max_running` is what limits them.
JOBS_IN_FLIGHT = 1_000
# How often the pipeline is given a chance to do something else while jobs wait in the queue.
TICK_S = 0.5
# A node on which so many jobs failed, and none went well, gets no more.
FAILURES_OF_A_NODE = 2

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cluster:
    """What jobs ask for, which machine they find, and which modalities run a model, so that a GPU is of use to them."""

    request: Request
    machine: Machine
    learned: Collection[str]
    poll_s: float

    def divide(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        """Where a job can have a GPU, what makes no use of it is a job of its own, which needs no such node."""
        if not self.request.gpus_per_node:
            return [tuple(modalities)]
        by_need = [[name for name in modalities if (name in self.learned) is learned] for learned in (False, True)]
        return [tuple(names) for names in by_need if names]

    def needs_gpu(self, modalities: Sequence[str]) -> bool:
        return bool(self.request.gpus_per_node) and any(name in self.learned for name in modalities)

    def request_for(self, needs_gpu: bool) -> Request:
        return self.request if needs_gpu else replace(self.request, gpus_per_node=0)

    def attempt(self, chunk: WrittenChunk) -> Attempt:
        """The first one, with all that a job has."""
        on = self.machine
        work = Work(chunk.path, on.models_root, on.device, on.model_batch_size, self.request.cpus_per_task)
        return Attempt(chunk, work, self.needs_gpu(chunk.modalities))


class SlurmExecutor:
    """Submits chunks as job arrays, one for each kind of node that they need; failed ones alone, once more."""

    in_flight = JOBS_IN_FLIGHT

    def __init__(self, submissions_dir: Path, cluster: Cluster, on_images: Callable[[int], None]) -> None:
        self._cluster = cluster
        self._submission = Submission.new(submissions_dir)
        self._folders = [self._submission]
        self._on_images = on_images
        self._begun: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._watch = Watch([self._submission.job_name], cluster.poll_s, self._begun.put)
        self._jobs: dict[Path, Job] = {}
        self._submitting = threading.Lock()
        self._failed_on: Counter[str] = Counter()
        self._good: set[str] = set()
        self._excluded: set[str] = set()
        self._stopped = False

    @property
    def chunks_dir(self) -> Path:
        return self._submission.folder

    def resume(self, leftovers: Sequence[Leftover]) -> list[WrittenChunk]:
        """Watch the jobs of an earlier run as if they were this one's."""
        for submission, recorded in leftovers:
            self._watch.names.add(submission.job_name)
            self._folders.append(submission)
            jobs = []
            for path, (job_id, counts) in recorded.items():
                attempt = self._cluster.attempt(read_chunk(path).written(path, counts))
                attempt = replace(attempt, done_before=count_done(path))
                jobs.append(Job(job_id, attempt, log_path(submission.logs, job_id)))
            logger.warning("going on with %d jobs of an earlier run (%s)", len(jobs), submission.job_name)
            self._jobs |= {job.chunk.path: job for job in jobs}
            self._watch.add(jobs)
        return [job.chunk for job in self._jobs.values()]

    def divide(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        return self._cluster.divide(modalities)

    def begin(self, chunks: Iterable[WrittenChunk]) -> Iterator[WrittenChunk | None]:
        """Submit all chunks, then yield each when its job has begun.

        Raises:
            SubmissionError: SLURM does not take them.
        """
        by_need: dict[bool, list[WrittenChunk]] = {}
        for chunk in chunks:
            by_need.setdefault(self._cluster.needs_gpu(chunk.modalities), []).append(chunk)
        for needs_gpu, found in by_need.items():
            self._submit_arrays(found, needs_gpu)
        waiting = len(self._jobs)
        while waiting:
            try:
                job = self._begun.get(timeout=TICK_S)
            except queue.Empty:
                yield None
                continue
            if job.attempt.number == 1:
                waiting -= 1
                yield job.chunk

    def embed(self, chunk_path: Path) -> ChunkOutcome:
        """Wait for the chunk's job; where that has failed before, submit it once more.

        Raises:
            ChunkRefusedError: the job refuses the chunk, in words of its own.
            JobFailedError: the job ended without an outcome.
            SubmissionError: SLURM does not take it, or will never run it.
        """
        job = self._jobs[chunk_path]
        if job.is_told:
            job = self._submit_again(job)
        job.ended.wait()
        while job.failure is not None:
            for line in job.tail():
                logger.info("%s: %s", job, line)
            self._count_failure(job)
            if not goes_on(job):
                job.is_told = True
                raise job.failure
            logger.warning("%s", job.failure)
            job = self._submit_again(job)
            job.ended.wait()
        self._good.add(job.state.node)
        outcome = read_outcome(chunk_path)
        logger.info("%s embedded %d of %d images", job, outcome.embedded, job.chunk.images)
        self._on_images(job.chunk.images)
        return outcome

    def stop(self) -> None:
        """Cancel the jobs."""
        self._stopped = True
        alive = self._watch.alive()
        if alive:
            cancel([job.id for job in alive])
        for job in alive:
            self._watch.fail(job, JobFailedError(f"{job} is cancelled", temporary=False))

    def close(self) -> None:
        self._watch.close()
        if not self._stopped:  # else jobs may write a last part, which the next run brings in
            for submission in self._folders:
                salvage(submission.chunk_paths())
                submission.remove()

    def _submit_arrays(self, chunks: Sequence[WrittenChunk], needs_gpu: bool) -> None:
        size = max_array_size()
        arrays = [chunks[start : start + size] for start in range(0, len(chunks), size)]
        request = self._cluster.request_for(needs_gpu)
        request = replace(request, max_running=max(1, request.max_running // max(1, len(arrays))))
        for array in arrays:
            self._submit(request, [self._cluster.attempt(chunk) for chunk in array])

    def _submit(self, request: Request, attempts: Sequence[Attempt]) -> None:
        logs = self._submission.logs
        with self._submitting:
            if self._stopped:
                raise JobFailedError("no more jobs are submitted, since the run is ending", temporary=False)
            works = [attempt.work for attempt in attempts]
            ids = submit(logs, self._submission.job_name, request, works, sorted(self._excluded))
            jobs = [Job(*of, log_path(logs, of[0])) for of in zip(ids, attempts, strict=True)]
            self._jobs |= {job.chunk.path: job for job in jobs}
            self._submission.record({path: Recorded(job.id, job.chunk.counts) for path, job in self._jobs.items()})
        self._watch.add(jobs)

    def _submit_again(self, job: Job) -> Job:
        attempt = try_otherwise(job)
        self._submit(self._cluster.request_for(attempt.needs_gpu), [attempt])
        return self._jobs[job.chunk.path]

    def _count_failure(self, job: Job) -> None:
        """Keep jobs off a node on which they fail and none goes well."""
        node = job.state.node
        if not node or job.state.state in INNOCENT | {"CANCELLED"} or job.was_short_of_memory:
            return
        self._failed_on[node] += 1
        if self._failed_on[node] < FAILURES_OF_A_NODE or node in self._good or node in self._excluded:
            return
        self._excluded.add(node)
        logger.warning("%s gets no more jobs: %d failed there and none went well", node, self._failed_on[node])
        waiting = [other.id for other in self._watch.alive() if not other.begun]
        keep_off(sorted(self._excluded), waiting)


def preview(cluster: Cluster, submissions_dir: Path, chunks: int, modalities: Sequence[str]) -> list[str]:
    """What `sbatch` would be given for so many chunks of images, a batch script for each kind of node."""
    submission, size = Submission.new(submissions_dir), max_array_size()
    previews = []
    for names in cluster.divide(modalities):
        request = cluster.request_for(cluster.needs_gpu(names))
        arrays = f", in {-(-chunks // size)} arrays" if chunks > size else ""
        told = f"# {chunks:,} jobs for {', '.join(names)}{arrays}\n"
        previews.append(told + script(submission.logs, submission.job_name, request, min(chunks, size)))
    return previews
