"""A chunk in a process of its own: `python -m imgrec.embedders.work CHUNK`. It talks to files and to nobody else."""

import argparse
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from imgrec.embedders.errors import DeviceError, DeviceMemoryError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.outcome import ChunkOutcome, write_outcome, write_refusal
from imgrec.embedders.work.worker import embed_chunk
from imgrec.storage.errors import ImgrecError
from imgrec.storage.machine.pool import WorkerPool, available_cpus

DONE, REFUSED = 0, 1


def embed_alone(chunk_path: Path, machine: Machine, workers: int, window: int | None) -> ChunkOutcome:
    """Embed a chunk with worker processes of its own."""
    with WorkerPool(workers, preload=["imgrec.embedders.work.worker"]) as pool:
        return embed_chunk(chunk_path, pool, 2 * workers, machine, window=window)


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed a chunk and write its outcome beside it; return the exit code.

    What no other try and no other machine would change is an outcome too.

    Raises:
        DeviceError, DeviceMemoryError, OSError, …: all else, which may be over, or otherwise elsewhere.
    """
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    machine = Machine(given.models_root, given.device, given.model_batch_size)
    try:
        with _ending_on_sigterm():
            outcome = embed_alone(given.chunk, machine, given.workers, given.window)
    except (DeviceError, DeviceMemoryError):
        raise
    except ImgrecError as error:
        print(f"imgrec: {error}", file=sys.stderr)  # noqa: T201 - the job's log
        write_refusal(given.chunk, str(error))
        return REFUSED
    write_outcome(given.chunk, outcome)
    return DONE


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """End as usual on SIGTERM, which scancel and pre-emption send some seconds ahead of SIGKILL."""

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # it may come twice
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser() -> argparse.ArgumentParser:
    known = Machine()
    parser = argparse.ArgumentParser(prog="python -m imgrec.embedders.work", description=embed_alone.__doc__)
    parser.add_argument("chunk", type=Path, help="file of the chunk; its outcome is written beside it")
    parser.add_argument("--models-root", type=Path, default=known.models_root, help="folder of models")
    parser.add_argument("--device", default=known.device, help="where models run: auto, cpu, cuda:N, mps")
    parser.add_argument("--model-batch-size", type=int, default=known.model_batch_size, help="images a forward pass")
    parser.add_argument("--workers", type=int, default=available_cpus(), help="processes; default: one a core")
    parser.add_argument("--window", type=int, help="images that are under way at most, to find out which one ends it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
