"""Where `imgrec` starts: Ctrl-C is quiet from here on, also in the second that the imports take.

A KeyboardInterrupt in the middle of an import ends in a traceback, or in whatever a library makes of it. So Ctrl-C ends
the process at once, except where `flows.pipeline.interrupts` has something to finish or to give back. Workers and
Prefect's temporary server watch their parent, and end with it.
"""

import atexit
import os
import signal
from types import FrameType

from imgrec.flows.cli.exit_codes import INTERRUPTED


def leave(number: int, frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


def main() -> None:
    """Run the command line, with a Ctrl-C that leaves no traceback."""
    signal.signal(signal.SIGINT, leave)
    # Registered first, so it runs last: the interpreter's own end knows no handlers, and the command is over.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from imgrec.flows.cli.main import main

    main()
