"""What all tests share."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # `make test` has a process a core; libraries read these at their import
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
    os.environ.pop("COLUMNS", None)  # xdist says 80; what is printed into a pipe has all the room it wants

from hypothesis import settings

from imgrec.storage.machine.pool import available_cpus

# The same examples on every machine, and none too slow because the machine is shared.
settings.register_profile("imgrec", derandomize=True, deadline=None, database=None)
settings.load_profile("imgrec")

# A process takes two GB where models run, and one that has tests of Prefect a server of its own.
MAX_PROCESSES = 6


@pytest.hookimpl(optionalhook=True)  # without xdist, all tests run in one process
def pytest_xdist_auto_num_workers() -> int:
    return min(available_cpus(), MAX_PROCESSES)
