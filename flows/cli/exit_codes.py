"""How a command ends."""

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130
