"""A network on many pictures: at once on a GPU, and on a CPU with a thread for every few of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from embedders.base import Vectors
from embedders.devices import Place

if TYPE_CHECKING:
    import torch


def embed_pictures(
    place: Place,
    network: "Callable[[torch.Tensor], torch.Tensor]",
    pictures: "torch.Tensor",
    images_at_once: int,
) -> Vectors:
    """Apply `network` to N > 0 pictures that lie on `place`'s device; fetch the rows.

    On a CPU parts of `images_at_once` are computed, each on one thread, as many at a time as torch may have threads.
    Threads that share every layer wait for each other after each of them: beside workers that decode, most of the time.
    """
    import torch

    def compute(part: torch.Tensor) -> torch.Tensor:
        with place.in_this_thread():
            return network(part)

    with place.computing():
        if place.kind != "cpu":
            return place.fetch(compute(pictures))
        threads = torch.get_num_threads()
        parts = torch.split(pictures, min(images_at_once, -(-len(pictures) // threads)))
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                return place.fetch(torch.cat(list(pool.map(compute, parts))))
        finally:
            torch.set_num_threads(threads)  # which is also what threads to come start with
