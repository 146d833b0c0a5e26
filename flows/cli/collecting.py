"""When Python looks for garbage: never among what was imported, which stays until the end."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Import without looking for garbage.

    Prefect and MLflow make a million objects that stay. To look through them again and again is a sixth of their
    import, and takes another second when the process ends.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
