"""How many threads FAISS takes for a search."""

from collections.abc import Iterator
from contextlib import contextmanager

import faiss

# Fewer queries are searched by the thread that asks: to wake others takes longer, and while others compute, far longer.
SEVERAL = 16


@contextmanager
def one_thread_for(queries: int) -> Iterator[None]:
    """Search a few queries by this thread alone; OpenMP keeps the number of threads for each thread."""
    if queries >= SEVERAL:
        yield
        return
    usual = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(usual)
