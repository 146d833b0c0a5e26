"""Chunks embedded as jobs of a SLURM cluster, a job a chunk."""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import WrittenChunk
from imgrec.embedders.work.outcome import ChunkOutcome, read_outcome
from imgrec.tasks.executors.errors import JobFailedError
from imgrec.tasks.executors.slurm_states import cancel, keep_off
from imgrec.tasks.executors.submission import Submission
from imgrec.tasks.executors.submitting import Request, Work, log_path, max_array_size, script, submit
from imgrec.tasks.executors.watching import INNOCENT, Job, Watch

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

    def work(self, chunk_path: Path) -> Work:
        on = self.machine
        return Work(chunk_path, on.models_root, on.device, on.model_batch_size, self.request.cpus_per_task)


class SlurmExecutor:
    """Submits chunks as job arrays, one for each kind of node that they need; failed ones alone, once more."""

    in_flight = JOBS_IN_FLIGHT

    def __init__(self, submissions_dir: Path, cluster: Cluster, on_images: Callable[[int], None]) -> None:
        self._cluster = cluster
        self._submission = Submission.new(submissions_dir)
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
            if job.tries == 1:
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
        if job.failure is not None:
            job = self._submit_again(job)
        job.ended.wait()
        if job.failure is not None:
            self._count_failure(job)
            for line in job.tail():
                logger.info("%s: %s", job, line)
            raise job.failure
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
        self._submission.remove()

    def _submit_arrays(self, chunks: Sequence[WrittenChunk], needs_gpu: bool) -> None:
        size = max_array_size() - 1  # it limits the index, which begins at 0
        arrays = [chunks[start : start + size] for start in range(0, len(chunks), size)]
        request = self._cluster.request_for(needs_gpu)
        request = replace(request, max_running=max(1, request.max_running // max(1, len(arrays))))
        for array in arrays:
            self._submit(request, [(chunk, self._cluster.work(chunk.path)) for chunk in array], needs_gpu)

    def _submit(
        self, request: Request, works: Sequence[tuple[WrittenChunk, Work]], needs_gpu: bool, tries: int = 1
    ) -> None:
        logs = self._submission.logs
        with self._submitting:
            if self._stopped:
                raise JobFailedError("no more jobs are submitted, since the run is ending", temporary=False)
            ids = submit(logs, self._submission.job_name, request, [work for _, work in works], sorted(self._excluded))
            jobs = [
                Job(job_id, chunk, work, needs_gpu, log_path(logs, job_id), tries)
                for job_id, (chunk, work) in zip(ids, works, strict=True)
            ]
            self._jobs |= {job.chunk.path: job for job in jobs}
            self._submission.record({path.name: job.id for path, job in self._jobs.items()})
        self._watch.add(jobs)

    def _submit_again(self, job: Job) -> Job:
        work = job.work
        if job.was_short_of_memory:
            work = replace(work, model_batch_size=max(1, work.model_batch_size // 2), workers=max(1, work.workers // 2))
            logger.warning(
                "%s had too little memory: its chunk is tried with model_batch_size = %d and %d workers",
                job, work.model_batch_size, work.workers,
            )  # fmt: skip
        self._submit(self._cluster.request_for(job.needs_gpu), [(job.chunk, work)], job.needs_gpu, job.tries + 1)
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


def preview(cluster: Cluster, chunks: int, modalities: Sequence[str]) -> list[str]:
    """The batch scripts of an ingest of so many chunks."""
    logs = Path("SUBMISSION/logs")
    return [
        script(logs, "imgrec-SUBMISSION", cluster.request_for(cluster.needs_gpu(names)), chunks)
        for names in cluster.divide(modalities)
    ]
