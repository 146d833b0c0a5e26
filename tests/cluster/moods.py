"""Photos for the moody embedder, and what becomes of them."""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.storage.shards import list_shards, read_shard
from tests.cluster.conftest import Driver, Imgrec, wait_until

PHOTOS = 24
A_JOB = 12


@dataclass(frozen=True)
class Moods:
    """A folder of photos, a library, and the moods that its jobs meet."""

    home: Path
    imgrec: Imgrec

    @property
    def library(self) -> Path:
        return self.home / "library"

    def set(self, mood: str, value: object = "") -> None:
        (self.home / "moods" / mood).write_text(str(value))

    def clear(self, mood: str) -> None:
        (self.home / "moods" / mood).unlink()

    def ingest(self, *more: object) -> Driver:
        where = ["ingest", self.home / "photos", "-l", self.library, "--executor", "slurm"]
        return self.imgrec("--verbose", *where, "--chunk-size", A_JOB, *more)

    def computed(self) -> Counter[int]:
        """How often each photo was embedded, by its number."""
        return Counter(int(grey) for grey, _, _ in self._log())

    def computed_by(self) -> Counter[str]:
        """How many photos each job has embedded, by the id that it has on its own."""
        return Counter(job_id for _, job_id, _ in self._log())

    def _log(self) -> list[list[str]]:
        log = self.home / "moods" / "computed"
        return [line.split() for line in log.read_text().splitlines()] if log.exists() else []

    def wait_for_computed(self, photos: int) -> None:
        wait_until(lambda: len(self.computed()) >= photos, f"{photos} photos are embedded")

    def outcomes(self) -> tuple[int, list[str]]:
        """How many photos have a vector in the library, and why others have none."""
        shards = [read_shard(path) for path in list_shards(self.library / "shards")]
        embedded = {content for shard in shards for content in shard.content_hashes}
        return len(embedded), [failure.reason for shard in shards for failure in shard.failures]


@pytest.fixture
def moods(imgrec: Imgrec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moods:
    """Photo N is grey, of value N; a job has twelve of them."""
    site, photos = tmp_path / "site", tmp_path / "photos"
    for folder in (tmp_path / "moods", photos, info := site / "moody-1.0.dist-info"):
        folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("moody.py"), site / "moody.py")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imgrec.embedders]\nmoody = moody:create\n")
    for number in range(PHOTOS):
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(photos / f"{number:02}.png")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("MOODY", str(tmp_path / "moods"))
    monkeypatch.setenv("IMGREC_MODALITIES", "moody")
    return Moods(tmp_path, imgrec)
