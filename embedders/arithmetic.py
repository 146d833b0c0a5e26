"""How many threads add floats: more than one give other last bits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_one_at_a_time = threading.Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS and OpenMP use one thread in this block, in which only one thread is at a time.

    BLAS's limit is the whole process': of two threads that set it, the first to leave would take it from the other.
    """
    with _one_at_a_time, _pools().limit(limits=1):
        yield


@cache
def _pools() -> ThreadpoolController:
    """Those loaded at the first call, numpy's among them; to look for later ones each time takes milliseconds."""
    return ThreadpoolController()
