"""Chunks embedded by the workers of a Dask cluster: an example of how an engine of one's own is plugged in.

`imgrec.executors` is an entry point: a function of settings, library and who hears of images that are done, which
returns an `Executor`. The cluster is the one that Dask's own configuration names (`DASK_SCHEDULER_ADDRESS`); without
any, Dask starts one of processes on this machine.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgrec.conf.settings import Settings
from imgrec.embedders.work.chunk import WrittenChunk, read_chunk
from imgrec.embedders.work.outcome import ChunkOutcome, outcome_path, read_outcome
from imgrec.storage.library import Library
from imgrec.storage.machine.pool import available_cpus
from imgrec.tasks.executors.errors import JobFailedError, MissingExecutorError
from imgrec.tasks.executors.leftovers import Leftover

if TYPE_CHECKING:
    from distributed import Client

# As many threads wait for chunks; the cluster's threads are what limits them.
CHUNKS_IN_FLIGHT = 1_000
# How often a job looks whether it is to end, and how long it then has for its last part.
LOOK_S = 0.5
END_S = 30
TAIL = 2_000


def create(chosen: Settings, library: Library, on_images: Callable[[int], None]) -> "DaskExecutor":
    """Connect to the cluster.

    Raises:
        MissingExecutorError: `distributed` is not installed.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise MissingExecutorError(
            f"executor = dask needs {error.name}, not installed here: `pip install 'image-recommender[dask]'`"
        ) from None
    machine = [f"--models-root={chosen.models_root}", f"--device={chosen.device}"]
    return DaskExecutor(
        Client(), library.chunks_dir, [*machine, f"--model-batch-size={chosen.model_batch_size}"], on_images
    )


class DaskExecutor:
    """A task of Dask's for each chunk; the work is a process of its own there, which a crash does not outlive."""

    in_flight = CHUNKS_IN_FLIGHT

    def __init__(
        self, client: "Client", chunks_dir: Path, machine: Sequence[str], on_images: Callable[[int], None]
    ) -> None:
        self.chunks_dir = chunks_dir
        self._client, self._machine, self._on_images = client, tuple(machine), on_images
        self._stopped = False

    def resume(self, leftovers: Sequence[Leftover]) -> list[WrittenChunk]:
        """Nothing: jobs of SLURM's are not ours to wait for, and Dask forgets tasks whose driver is gone."""
        return []

    def divide(self, modalities: Sequence[str]) -> list[tuple[str, ...]]:
        return [tuple(modalities)]

    def begin(self, chunks: Iterable[WrittenChunk]) -> Iterator[WrittenChunk | None]:
        yield from chunks

    def embed(self, chunk_path: Path) -> ChunkOutcome:
        """Have a worker of the cluster do a chunk, and wait for it.

        Raises:
            ChunkRefusedError: it refuses the chunk, in words of its own.
            JobFailedError: it ended without an outcome, or was told to.
        """
        from distributed import CancelledError, KilledWorker

        future = self._client.submit(embed_in_process, str(chunk_path), self._machine, pure=False)
        try:
            code, said = future.result()
        except (CancelledError, KilledWorker) as error:
            raise JobFailedError(f"{chunk_path.name} has no worker any more: {error}", not self._stopped) from error
        if not outcome_path(chunk_path).exists():
            raise JobFailedError(f"{chunk_path.name} ended with exit code {code}: {said}", not self._stopped)
        outcome = read_outcome(chunk_path)
        self._on_images(len(read_chunk(chunk_path).pending))
        return outcome

    def stop(self) -> None:
        """Have what runs keep its last part and end; Dask itself interrupts no task that runs."""
        self._stopped = True
        if self.chunks_dir.is_dir():
            stop_path(self.chunks_dir).touch()

    def close(self) -> None:
        if not self._stopped:  # else there are parts, which the next run brings in
            shutil.rmtree(self.chunks_dir, ignore_errors=True)
        self._client.close()
        cluster = self._client.cluster
        if cluster is not None:  # ours, since no other was named
            cluster.close()


def stop_path(chunks_dir: Path) -> Path:
    """While it is there, chunks in that folder end. The next run removes the folder."""
    return chunks_dir / "stop"


def embed_in_process(chunk_path: str, machine: Sequence[str]) -> tuple[int, str]:
    """Do a chunk where Dask calls this; return the exit code and the end of what it said."""
    from distributed import get_worker

    workers = max(1, available_cpus() // get_worker().state.nthreads)
    command = [sys.executable, "-P", "-m", "imgrec.embedders.work", chunk_path, *machine, f"--workers={workers}"]
    stop = stop_path(Path(chunk_path).parent)
    log = Path(chunk_path).with_suffix(".log")
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as process:
        while process.poll() is None:
            if stop.exists():
                process.terminate()
                try:
                    process.wait(END_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            time.sleep(LOOK_S)
    return process.returncode, log.read_text(errors="replace")[-TAIL:].strip()
