"""What all tests share."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores; libraries read these when they are imported
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")

from hypothesis import settings

from imgrec.storage.machine.pool import available_cpus

# The same examples on every machine, and none too slow because the machine is shared.
settings.register_profile("imgrec", derandomize=True, deadline=None, database=None)
settings.load_profile("imgrec")

# More workers would wait for the one that has the tests of Prefect, and each takes a GB where models run.
MAX_WORKERS = 6


@pytest.hookimpl(optionalhook=True)  # one file's tests run without xdist
def pytest_xdist_auto_num_workers() -> int:
    return min(available_cpus(), MAX_WORKERS)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one worker have all tests of a file, whose fixtures they share, and one all that need the Prefect server."""
    for item in items:
        needs_server = "prefect_server" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("prefect" if needs_server else item.path.stem))
