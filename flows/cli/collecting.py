"""When Python looks for garbage: never among what was imported, which stays until the end."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage.

    Prefect and MLflow make a million objects that stay; looking through them over and over is a sixth of their import.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
