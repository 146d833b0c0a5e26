"""An embedder with moods, installed as another package's: what a job may meet, brought about by files in $MOODY.

`seconds`: how long a picture takes. `kill-once`, `eat-once`, `raise-once`: what happens to whoever takes the file away.
`poison`: the grey value of a picture that ends its job each time. `bad-node`: a node on which nothing goes well.
`computed` has a line for each picture that was embedded.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgrec.embedders.base import Embedder, EmbedderSpec, Pixels, Vectors

MOODS = Path(os.environ["MOODY"])


class MoodyEmbedder(Embedder):
    """The colour of a picture's corner, and little else."""

    spec = EmbedderSpec("moody", 1, 3, 64)

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        return np.stack([_embed(pixels) for pixels in batch])


def create(vector_settings: Mapping[str, Any], models_dir: Path | None) -> Embedder:
    return MoodyEmbedder()


def _embed(pixels: Pixels) -> Vectors:
    grey = int(pixels[0, 0, 0])
    if pixels.shape[:2] != (64, 64):  # the picture that workers ask about whether it is the machine's fault
        return np.full(3, 3**-0.5, np.float32)
    time.sleep(float(_mood("seconds") or 0))
    if _mood("bad-node") == os.environ["SLURMD_NODENAME"]:
        raise OSError(5, "Input/output error", "a broken disk")
    if _taken("raise-once"):
        raise OSError(5, "Input/output error", "a disk in a bad mood")
    if _taken("kill-once") or _mood("poison") == str(grey):
        parent = multiprocessing.parent_process()
        assert parent is not None and parent.pid is not None
        os.kill(parent.pid, signal.SIGKILL)
        time.sleep(60)
    if _taken("eat-once"):
        eaten = np.ones(200_000_000)
        time.sleep(60)
        eaten.sum()
    with (MOODS / "computed").open("a") as file:
        file.write(f"{grey} {os.environ['SLURM_JOB_ID']} {os.environ['SLURMD_NODENAME']}\n")
    row = np.array([1 + grey, 100, 50], np.float32)
    return row / np.linalg.norm(row)


def _mood(name: str) -> str:
    try:
        return (MOODS / name).read_text().strip()
    except FileNotFoundError:
        return ""


def _taken(name: str) -> bool:
    """Whether the mood is there, and this process was the first to take it."""
    try:
        (MOODS / name).unlink()
    except FileNotFoundError:
        return False
    return True
