"""One thread for sums, in many threads at once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.pictures import real_pictures
from imgrec.embedders import arithmetic
from imgrec.embedders.arithmetic import one_thread
from imgrec.embedders.modalities.sift import SiftEmbedder
from imgrec.embedders.modalities.sift_codebook import DEFAULT, load_codebook
from imgrec.storage.photos.decoding import decode


def pool_sizes() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()}


def test_no_thread_takes_the_limit_from_another() -> None:
    """Two threads that want it, the first to come the first to leave: each has it until it leaves."""
    arithmetic._pools.cache_clear()  # what earlier tests have loaded since the first call is counted too
    first_is_in, second_is_about = threading.Event(), threading.Event()
    found: list[set[int]] = []

    def come_second() -> None:
        first_is_in.wait()
        second_is_about.set()
        with one_thread():
            first.join()
            found.append(pool_sizes())

    def come_first() -> None:
        with threadpool_limits(3):
            with one_thread():
                first_is_in.set()
                second_is_about.wait()
                found.append(pool_sizes())
            found.append(pool_sizes())

    first, second = threading.Thread(target=come_first), threading.Thread(target=come_second)
    for thread in (first, second):
        thread.start()
    for thread in (first, second):
        thread.join()
    assert found == [{1}, {3}, {1}]


def test_sift_makes_the_same_bytes_in_many_threads() -> None:
    embedder = SiftEmbedder(load_codebook(DEFAULT, None), 448)
    pictures = [decode(path.read_bytes(), 128, 256) for path in real_pictures()[:8]]
    alone = [embedder.embed([picture]).tobytes() for picture in pictures]
    before = pool_sizes()
    with ThreadPoolExecutor(16) as threads:
        rows = list(threads.map(lambda picture: embedder.embed([picture]), pictures * 4))
    assert [row.tobytes() for row in rows] == alone * 4
    assert pool_sizes() == before
    assert all(np.isfinite(row).all() for row in rows)
