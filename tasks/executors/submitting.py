"""How jobs get to SLURM: the one file that knows submitit. What runs in a job is at its end."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths
from submitit.helpers import Checkpointable

from imgrec.embedders.work.__main__ import main
from imgrec.tasks.executors.errors import SubmissionError

# SLURM's own default; what `scontrol show config` does not say is taken for it.
MAX_ARRAY_SIZE = 1_001
# How long before its wall-time limit a job is told, so that it is queued again instead of failing.
WARNED_S = 90


@dataclass(frozen=True)
class Request:
    """What jobs ask of SLURM: the settings slurm_*. `raw` are parameters of sbatch as it knows them."""

    cpus_per_task: int
    mem_gb: float
    timeout_min: int
    max_running: int
    gpus_per_node: int = 0
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] = ()
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A chunk, and what `python -m imgrec.embedders.work` is told of the machine."""

    chunk_path: Path
    models_root: Path
    device: str
    model_batch_size: int
    workers: int
    window: int | None = None

    @property
    def arguments(self) -> list[str]:
        window = [] if self.window is None else [f"--window={self.window}"]
        return [
            str(self.chunk_path), f"--models-root={self.models_root}", f"--device={self.device}",
            f"--model-batch-size={self.model_batch_size}", f"--workers={self.workers}", *window,
        ]  # fmt: skip


def submit(logs: Path, name: str, request: Request, works: Sequence[Work], exclude: Sequence[str] = ()) -> list[str]:
    """Submit one job array of these chunks, no more than `max_array_size()`; return the jobs' ids in their order.

    Raises:
        SubmissionError: SLURM is not there, or refuses what is asked for.
    """
    executor = _executor(logs, name, request, exclude)
    try:
        jobs = executor.map_array(_ChunkJob(), [work.arguments for work in works])  # type: ignore[no-untyped-call] # submitit's __new__
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise SubmissionError(
            f"SLURM does not take the jobs: {_reason(error)}: change slurm_… to what it has"
        ) from error
    return [job.job_id for job in jobs]


def script(logs: Path, name: str, request: Request, jobs: int) -> str:
    """What `sbatch` would be given for an array of so many jobs."""
    executor = _executor(logs, name, request, ())
    if jobs > 1:
        executor.parameters["map_count"] = jobs
    return executor._make_submission_file_text(executor._submitit_command_str, "preview")


def log_path(logs: Path, job_id: str) -> Path:
    """Where a job's standard error goes."""
    return Path(JobPaths(logs, job_id, 0).stderr)


def max_array_size() -> int:
    """How many jobs the cluster allows in one array."""
    shown = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, check=False).stdout
    found = [line.partition("=")[2].strip() for line in shown.splitlines() if line.startswith("MaxArraySize")]
    return int(found[0]) if found else MAX_ARRAY_SIZE


def _executor(logs: Path, name: str, request: Request, exclude: Sequence[str]) -> SlurmExecutor:
    try:
        executor = SlurmExecutor(logs)
    except RuntimeError:
        raise SubmissionError(
            "there is no SLURM here (no `srun`): run this where `sbatch` works, or take --executor local"
        ) from None
    asked = {
        "partition": request.partition, "account": request.account, "qos": request.qos,
        "constraint": request.constraint, "gpus_per_node": request.gpus_per_node or None,
        "exclude": ",".join(exclude) or None, "additional_parameters": dict(request.raw) or None,
    }  # fmt: skip
    executor.update_parameters(
        job_name=name,
        cpus_per_task=request.cpus_per_task,
        mem=f"{max(1, round(1024 * request.mem_gb))}M",
        time=request.timeout_min,
        array_parallelism=request.max_running,
        signal_delay_s=WARNED_S,
        wckey=None,  # submitit's default, which clusters that track them refuse
        # A file of the user's must not shadow a module of ours; srun does not pass the batch step's cores on by itself.
        setup=[*request.setup, "export PYTHONSAFEPATH=1"],
        srun_args=[f"--cpus-per-task={request.cpus_per_task}"],
        **{parameter: value for parameter, value in asked.items() if value is not None},
    )
    return executor


def _reason(error: Exception) -> str:
    said = [line.strip() for line in str(error).splitlines() if "sbatch: error" in line]
    return " ".join(line.partition("sbatch: error:")[2].strip() for line in said) or str(error).strip()


class _ChunkJob(Checkpointable):
    """What runs in a job; told that its time is over, it is queued again and goes on behind its last part."""

    def __call__(self, arguments: Sequence[str]) -> None:
        if code := main(arguments):
            sys.exit(code)
