"""Paths of photos as people see them."""

import os


def printable(path: str | bytes) -> str:
    r"""Show a file name: bytes that are not UTF-8 as `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
