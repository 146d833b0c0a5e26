"""What all tests share."""

import gc
import os
from collections import Counter

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
# What a test costs that asks for one of these fixtures, in plain tests: it starts `imgrec` processes.
SLOW_FIXTURES = {"prefect_server": 20, "own_server_environment": 20, "launcher": 40}


@pytest.hookimpl(optionalhook=True)  # without xdist, all tests run in one process
def pytest_xdist_auto_num_workers() -> int:
    return min(available_cpus(), MAX_PROCESSES)


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in a hook of its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let one process have all tests of the Prefect server, whose start takes 15 s; other tests stay with their file.

    The longest groups come first, so that no process is left alone with one at the end.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    groups = {item: _group(item) for item in items}
    weights: Counter[str] = Counter()
    for item, group in groups.items():
        weights[group] += 1 + max((SLOW_FIXTURES.get(name, 0) for name in _fixtures(item)), default=0)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: -weights[groups[item]])


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # what commands froze in this process; else DuckDB's bindings complain of it at the end


def _group(item: pytest.Item) -> str:
    return "prefect" if "prefect_server" in _fixtures(item) else item.nodeid.split("::")[0]


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])
