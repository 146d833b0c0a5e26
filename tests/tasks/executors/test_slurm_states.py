"""What SLURM says of jobs, as its commands write it."""

from pathlib import Path

import pytest

from imgrec.tasks.executors.slurm_states import JobState, find_ended

TOLD = """5_[0,2-4,10-16:3%2]|CANCELLED by 0|None assigned|0:0
5_1|FAILED|node1|137:0
7|COMPLETED|node2|0:0
"""


def test_tasks_that_ended_before_they_began_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sacct 22.05 wrote of arrays that were cancelled in the queue."""
    (tmp_path / "told").write_text(TOLD)
    sacct = tmp_path / "sacct"
    sacct.write_text(f'#!/bin/sh\ntest "$SLURM_BITSTR_LEN" = 0 && cat {tmp_path}/told\n')
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    cancelled = JobState("CANCELLED", "", "exit code 0:0")
    assert find_ended([*(f"5_{task}" for task in (0, 1, 2, 3, 4, 10, 13, 16)), "7"]) == {
        **{f"5_{task}": cancelled for task in (0, 2, 3, 4, 10, 13, 16)},
        "5_1": JobState("FAILED", "node1", "exit code 137:0"),
        "7": JobState("COMPLETED", "node2", "exit code 0:0"),
    }
