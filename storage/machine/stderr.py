"""What C libraries write to file descriptor 2.

libtiff and its like complain there of a picture without naming it. In worker processes that is kept from the terminal,
and tells why a picture cannot be decoded where Pillow says no more than "decoder error -2".
"""

import os
import sys

_KEPT_BYTES = 4_096

_kept: list[int] = []


def keep_stderr() -> None:
    """From now on, keep what this process writes to descriptor 2; Python's own `sys.stderr` still reaches it."""
    if _kept or not hasattr(os, "memfd_create"):
        return
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    memory = os.memfd_create("imgrec-messages")
    os.dup2(memory, 2)
    _kept.append(memory)


def keeps_stderr() -> bool:
    """Whether this process keeps them: a worker, in which only one thread decodes."""
    return bool(_kept)


def take_stderr() -> str:
    """Return the last line kept since the last call, or nothing."""
    if not _kept:
        return ""
    (memory,) = _kept
    size = os.lseek(memory, 0, os.SEEK_CUR)
    if size == 0:
        return ""
    text = os.pread(memory, _KEPT_BYTES, max(0, size - _KEPT_BYTES)).decode("utf-8", "replace")
    os.ftruncate(memory, 0)
    os.lseek(memory, 0, os.SEEK_SET)
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
