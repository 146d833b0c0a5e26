"""Ctrl-C from the first import to the interpreter's end: exit code 130 and no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import Imgrec

# Ctrl-C comes as the first of these modules is imported.
STRIKE = """
import os, signal, sys
def strike(event, arguments):
    if event == "import" and arguments[0] == {module!r}:
        os.kill(os.getpid(), signal.SIGINT)
sys.addaudithook(strike)
sys.argv = ["imgrec", *{arguments!r}]
from imgrec.flows.cli.start import main
main()
"""
AT_THE_END = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv = ["imgrec", "--version"]
from imgrec.flows.cli.start import main
main()
"""
AGAIN = """
import os, signal
from contextlib import suppress
from imgrec.flows.pipeline.interrupts import cleaning_up, stopping_gently
from imgrec.flows.cli.start import leave
signal.signal(signal.SIGINT, leave)
with suppress(KeyboardInterrupt), cleaning_up():
    signal.raise_signal(signal.SIGINT)
with suppress(KeyboardInterrupt), stopping_gently() as stop_if_asked:
    signal.raise_signal(signal.SIGINT)
    stop_if_asked()
print("stopping")
import sys; sys.stdout.flush()
signal.raise_signal(signal.SIGINT)
print("never")
"""


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("module", "command"),
    [("click", "status"), ("imgrec.flows.cli.search", "search"), ("pyarrow", "search"), ("faiss", "search"),
     ("imgrec.flows.cli.status", "status"), ("prefect", "ingest"), ("prefect.flows", "ingest")],
)  # fmt: skip
def test_ctrl_c_during_the_imports_is_quiet(
    imgrec: Imgrec, photos: Path, library: Path, module: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "search":
        imgrec("ingest", photos, "--library", library)
    monkeypatch.setenv("IMGREC_ORCHESTRATE", "prefect")
    arguments = {"search": ["id:1"], "status": [], "ingest": [str(photos)]}[command]
    done = run(STRIKE.format(module=module, arguments=[command, *arguments, "--library", str(library)]))
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_ctrl_c_at_the_interpreters_end_changes_nothing() -> None:
    done = run(AT_THE_END)
    assert (done.returncode, done.stdout.startswith("imgrec"), done.stderr) == (0, True, "")


def test_ctrl_c_again_while_a_stopped_flow_ends_is_quiet() -> None:
    done = run(AGAIN)
    assert (done.returncode, done.stdout) == (130, "stopping\n")
    assert "Traceback" not in done.stderr
