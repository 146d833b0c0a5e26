"""Ctrl-C: the first lets what is in flight finish, the second ends the process at once."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SAID = b"\nimgrec: finishing what is in flight; press Ctrl-C again to stop at once\n"
_SHOW_CURSOR = b"\x1b[?25h"  # a progress bar hides it, and a process that is ended at once does not bring it back


@contextmanager
def stopping_gently() -> Iterator[Callable[[], None]]:
    """Yield a function to call wherever it is good to stop: it raises KeyboardInterrupt once Ctrl-C was pressed.

    Meanwhile nothing else is interrupted, whatever it is doing, until Ctrl-C is pressed again.
    """
    if threading.current_thread() is not threading.main_thread():  # only that one hears signals
        yield lambda: None
        return
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        os.write(sys.stderr.fileno(), _SHOW_CURSOR * sys.stderr.isatty() + _SAID)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    def stop_if_asked() -> None:
        if asked.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop_if_asked
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt meanwhile, so that locks and temporary files go."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
