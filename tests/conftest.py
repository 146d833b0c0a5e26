"""What all tests share, and how `make test` divides them among processes."""

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; libraries read these when they are imported
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
    os.environ.pop("COLUMNS", None)  # xdist says 80; what is printed into a pipe has all the room it wants

from hypothesis import settings

from imgrec.storage.machine.pool import available_cpus

# The same examples on every machine, and none too slow because the machine is shared.
settings.register_profile("imgrec", derandomize=True, deadline=None, database=None)
settings.load_profile("imgrec")

# More would wait for the one that has the tests of Prefect, and each takes two GB where models run.
MAX_PROCESSES = 6
ASKS_FOR_A_SERVER = re.compile(r"through_prefect|prefect_server|prefect_launcher|\bserver_environment")


@pytest.hookimpl(optionalhook=True)  # without xdist, tests run in one process
def pytest_xdist_auto_num_workers() -> int:
    return min(available_cpus(), MAX_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give one process all tests of a file, whose fixtures they share, and one all files that need a Prefect server.

    (`--dist loadgroup` would do it by markers; xdist 3.8 does not find them with pytest 9.2.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByServerAndFile(LoadScopeScheduling):  # type: ignore[misc] # no types are published
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return "prefect" if _asks_for_a_server(config.rootpath / file) else file

    return ByServerAndFile(config, log)


@cache
def _asks_for_a_server(file: Path) -> bool:
    return bool(ASKS_FOR_A_SERVER.search(file.read_text()))
