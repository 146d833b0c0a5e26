"""The folder of a submission: chunks, their outcomes, the logs of their jobs, and which job has which chunk."""

import json
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imgrec.storage.machine.atomic import write_atomic


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

    def record(self, jobs: Mapping[str, str]) -> None:
        """Keep which job has which chunk (by its file's name)."""
        write_atomic(self._jobs_path, json.dumps(jobs, indent=1).encode())

    def recorded(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._jobs_path.read_bytes()))
        except FileNotFoundError:
            return {}

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # others are in it
            self.folder.parent.rmdir()

    @property
    def _jobs_path(self) -> Path:
        return self.folder / "jobs.json"
