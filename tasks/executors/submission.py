"""The folder of a submission: chunks, their outcomes, the logs of their jobs, and which job has which chunk."""

import json
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imgrec.storage.machine.atomic import write_atomic


class Recorded(NamedTuple):
    """A chunk's job, and whether its images count (see WrittenChunk)."""

    job_id: str
    counts: bool


@dataclass(frozen=True)
class Submission:
    """The one owner of every path in it. A new one for each run: nothing of an earlier one is taken for a result."""

    folder: Path

    @classmethod
    def new(cls, submissions_dir: Path) -> "Submission":
        return cls(submissions_dir / f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(4)}")

    @property
    def job_name(self) -> str:
        """What squeue shows, and finds them by."""
        return f"imgrec-{self.folder.name}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def record(self, jobs: Mapping[Path, Recorded]) -> None:
        """Keep which job has which chunk; one that an earlier run wrote stays in that run's folder."""
        facts = {str(path.relative_to(self.folder.parent)): job for path, job in jobs.items()}
        write_atomic(self._jobs_path, json.dumps(facts, indent=1).encode())

    def recorded(self) -> dict[Path, Recorded]:
        """Which job has which chunk: none, if the run ended before it had submitted any."""
        try:
            facts = json.loads(self._jobs_path.read_bytes())
        except FileNotFoundError:
            return {}
        return {self.folder.parent / path: Recorded(*job) for path, job in facts.items()}

    def chunk_paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if path != self._jobs_path)

    @classmethod
    def list(cls, submissions_dir: Path) -> "list[Submission]":
        """Those of earlier runs, the oldest first."""
        return [cls(folder) for folder in sorted(submissions_dir.glob("*/"))]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # others are in it
            self.folder.parent.rmdir()

    @property
    def _jobs_path(self) -> Path:
        return self.folder / "jobs.json"
