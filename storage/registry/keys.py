"""What a file is known by in the registry: its path, and its stat as long as that tells of every change."""

import os

from imgrec.storage.errors import UNREADABLE
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.roots import end_of, prefix_of
from imgrec.storage.photos.walk import FoundFile

# A file written within the clock's grain of the moment it was read may have changed unseen, so it is read again.
# 2 s is the coarsest grain in use (FAT).
CLOCK_GRAIN_NS = 2_000_000_000
# A file dated later than that was dated so by hand, not by a clock that is ahead: a change would date it anew.
CLOCK_AHEAD_NS = 24 * 3600 * 1_000_000_000


def is_settled(table: str) -> str:
    """Whether the mtime of a row would be another one if the file had changed since it was read."""
    time, read = f"{table}.mtime_ns", f"{table}.hashed_ns"
    return f"{time} NOT BETWEEN {read} - {CLOCK_GRAIN_NS} AND {read} + {CLOCK_AHEAD_NS}"


# A path as it is unique, of `images AS i`; those that are not UTF-8, BLOBs, come after all others.
KEY = "ifnull(i.raw_path, i.path)"
# CROSS keeps SQLite from going through all images.
ROW_AT_KEY = f"CROSS JOIN images AS i ON {KEY} = key AND i.missing_since IS NULL"
# Such a row's file is taken to hold what it held while its stat is the same. All of them have a content hash.
SETTLED = f"i.status <> '{UNREADABLE}' AND i.hashed_ns > 0 AND {is_settled('i')}"


def key_of(path: str) -> str | bytes:
    """What a path is known by: its text, or where that is not UTF-8 its bytes."""
    return path if path.isascii() or is_utf8(path) else os.fsencode(path)


def keys_below(name: str) -> tuple[tuple[str | bytes, str | bytes], ...]:
    """The keys of a named root: from one, up to and without another; as text, and as bytes."""
    first, end = prefix_of(name), end_of(name)
    return (first, end), (first.encode(), end.encode())


def seen_row(file: FoundFile) -> tuple[str | bytes, str, bytes | None, int, int, int]:
    """A file as a row: key, path, raw_path and stat."""
    path = file.path
    if path.isascii() or is_utf8(path):
        return path, path, None, file.size, file.mtime_ns, file.ctime_ns
    raw = os.fsencode(path)
    return raw, printable(raw), raw, file.size, file.mtime_ns, file.ctime_ns


def named_in_utf8(files: list[FoundFile]) -> list[FoundFile]:
    if is_utf8("".join([file.path for file in files])):
        return files
    return [file for file in files if is_utf8(file.path)]


def is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
