"""The README's way, to the letter."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.pictures import write_pictures

ROOT = Path(__file__).parent.parent
COMMANDS = [
    line.removeprefix("$ ")
    for block in re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    for line in block.splitlines()
    if line.startswith("$ ")
]


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    write_pictures(tmp_path / "Pictures", copies=False)
    (tmp_path / "holiday.jpg").write_bytes((tmp_path / "Pictures" / "rocket.jpg").read_bytes())
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "PREFECT_HOME": str(tmp_path / "prefect"),
    }
    ran = [command for command in COMMANDS if shlex.split(command)[0] == "imgrec"]
    assert len(ran) >= 6
    for command in ran:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert done.stderr == "", command
    assert (tmp_path / "hits.png").stat().st_size > 10_000


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), command


def test_every_file_that_the_readme_links_is_there() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert link.startswith("http") or (ROOT / link).exists(), link
