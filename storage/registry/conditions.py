"""Which images a condition in SQL holds for, asked where nothing but images can be read."""

import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import FilterError
from imgrec.storage.photos.exclusion import parse_patterns
from imgrec.storage.registry.registry import Registry

# A condition that takes longer is one that compares all images with all others.
TIMEOUT_S = 60.0
# What conditions can ask for, under the names that `imgrec sql` has. Times are UTC, in the form in which they compare
# as text.
_COLUMNS = {
    "id": "id",
    "path": "path",
    "size": "size",
    "modified": "strftime('%Y-%m-%d %H:%M:%S', mtime_ns / 1000000000, 'unixepoch')",
    "width": "width",
    "height": "height",
    "format": "format",
    "status": "CASE WHEN missing_since IS NULL THEN status ELSE 'missing' END",
    "reason": "reason",
    "content_hash": "lower(hex(content_hash))",
}
# All others (load_extension, fts3_tokenizer, …) are refused, whatever SQLite was built with.
_FUNCTIONS = frozenset({
    "abs", "avg", "coalesce", "count", "date", "datetime", "exists", "format", "glob", "hex", "ifnull", "iif", "instr",
    "julianday", "length", "like", "lower", "ltrim", "max", "min", "nullif", "path_matches", "printf", "replace",
    "round", "rtrim", "sign", "strftime", "substr", "substring", "sum", "time", "total", "trim", "typeof", "unicode",
    "unixepoch", "upper",
})  # fmt: skip
_MOST_BYTES = 1_000_000  # of a value or a statement: zeroblob() and its like take no memory
_STEPS_BETWEEN_LOOKS = 100_000


class Condition(NamedTuple):
    """SQL that is true of an image or not, and the values of its question marks."""

    sql: str
    values: tuple[object, ...] = ()


class ImageConditions:
    """A connection of its own to the registry, which reads images, and refuses all else. For any number of threads."""

    def __init__(self, registry_path: Path) -> None:
        self._one_at_a_time = threading.Lock()
        self._closing = ExitStack()
        registry = self._closing.enter_context(Registry.open_for_reading(registry_path))
        self._connection = registry.connection
        columns = ", ".join(f"{sql} AS {name}" for name, sql in _COLUMNS.items())
        self._connection.execute(f"CREATE TEMP VIEW images AS SELECT {columns} FROM main.images")
        self._connection.create_function("path_matches", 2, _path_matches, deterministic=True)
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
        self._connection.set_authorizer(_authorize)

    def close(self) -> None:
        with self._one_at_a_time:
            self._closing.close()

    def state(self) -> int:
        """A number that changes when anybody writes to the registry."""
        with self._one_at_a_time:
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def check(self, condition: str) -> None:
        """Refuse what is no condition on images; nothing is run.

        Raises:
            FilterError: it is not.
        """
        with self._one_at_a_time, _in_one_line(condition):
            # As it is, it must end nothing and open nothing; in brackets, it must be an expression.
            for form in (condition, f"({condition}\n)"):
                self._connection.execute(f"EXPLAIN SELECT id FROM images WHERE {form}").close()

    def ids(self, conditions: Sequence[Condition]) -> NDArray[np.int64]:
        """The ids, ascending, of the images that all of the conditions hold for.

        Raises:
            FilterError: a condition is wrong, or takes longer than a minute.
        """
        where = " AND ".join(f"({condition.sql}\n)" for condition in conditions) or "1"
        values = [value for condition in conditions for value in condition.values]
        with self._one_at_a_time, _in_one_line(where), self._limited():
            rows = self._connection.execute(f"SELECT id FROM images WHERE {where} ORDER BY id", values)
            return np.fromiter(chain.from_iterable(rows), np.int64)

    @contextmanager
    def _limited(self) -> Iterator[None]:
        end = time.monotonic() + TIMEOUT_S
        self._connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        finally:
            self._connection.set_progress_handler(None, 0)


def _authorize(action: int, name: str | None, detail: str | None, *_: str | None) -> int:
    """Say what SQLite may do: https://www.sqlite.org/c3ref/set_authorizer.html"""
    allowed = (
        action == sqlite3.SQLITE_SELECT
        or (action == sqlite3.SQLITE_READ and name == "images")
        or (action == sqlite3.SQLITE_FUNCTION and detail in _FUNCTIONS)
        or (action == sqlite3.SQLITE_PRAGMA and (name, detail) == ("data_version", None))
    )
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


@contextmanager
def _in_one_line(condition: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError, OverflowError) as error:
        said = " ".join(str(error).split())
        if said == "interrupted":
            said = f"it takes longer than {TIMEOUT_S:.0f} s"
        raise FilterError(
            f"condition {condition!r}: {said}; give an SQL expression of {', '.join(_COLUMNS)}, such as width > 2000"
        ) from error


def _path_matches(pattern: str, path: str) -> bool:
    return _regex(pattern).search(path) is not None


@lru_cache(maxsize=256)
def _regex(pattern: str) -> re.Pattern[str]:
    return parse_patterns([pattern])[0].regex
