"""Where `imgrec` starts: Ctrl-C is quiet from here on, also in the second that the imports take.

A KeyboardInterrupt in the middle of an import ends in a traceback, or in whatever a library makes of it. So Ctrl-C ends
the process at once, except where `flows.pipeline.interrupts` has something to finish or to give back. Workers and
Prefect's temporary server watch their parent, and end with it.
"""

import atexit
import io
import os
import signal
import sys
import warnings
from types import FrameType

from imgrec.flows.cli.exit_codes import INTERRUPTED


def leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def _take_warnings_as_such() -> None:
    """Keep PYTHONWARNINGS=error, which is for tests, from ending a command wherever a dependency warns."""
    actions = [option.partition(":")[0] for option in sys.warnoptions]
    if not any(action and "error".startswith(action) for action in actions):
        return
    os.environ.pop("PYTHONWARNINGS", None)
    sys.warnoptions.clear()  # processes that start from here would get them
    warnings.resetwarnings()
    for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", category)  # as Python does by itself


def main() -> None:
    """Run the command line, with a Ctrl-C that leaves no traceback."""
    signal.signal(signal.SIGINT, leave)
    # Registered first, so it runs last: the interpreter's own end knows no handlers, and the command is over.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    _take_warnings_as_such()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names may have letters that the terminal has not
    from imgrec.flows.cli.main import main

    main()
