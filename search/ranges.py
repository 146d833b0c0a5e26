"""Ranges of sizes and dates as people write them: `1M..5M`, `+500k`, `2019-05..2019-08`, `2019..`."""

import re
from collections.abc import Iterable

from imgrec.storage.errors import FilterError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_IDS = re.compile(r"(?:id:)?(\d{1,18})(?:\.\.(\d{1,18}))?")
_MOST_IDS = 10_000_000


def size_range(text: str) -> tuple[int | None, int | None]:
    """Read a range of bytes, both ends inside; None where it is open.

    As in fd, `+1M` is at least and `-1M` at most, k, M, G are thousands, and ki, Mi, Gi multiples of 1,024.

    Raises:
        FilterError: it is none.
    """
    if text.startswith("+"):
        return _bytes(text, text[1:]), None
    if text.startswith("-"):
        return None, _bytes(text, text[1:])
    first, dots, last = text.partition("..")
    low = _bytes(text, first) if first else None
    high = _bytes(text, last) if last else None
    if not dots:
        return low, low
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise _no_size(text)
    return low, high


def id_ranges(texts: Iterable[str]) -> tuple[int, ...]:
    """Read ids as `3,7,100..200`, both ends inside.

    Raises:
        FilterError: they are none.
    """
    found: list[int] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        if (ends := _IDS.fullmatch(part)) is None:
            raise FilterError(f"{part!r} is no id: give numbers and ranges, such as 3,7,100..200")
        first = int(ends[1])
        last = first if ends[2] is None else int(ends[2])
        if last - first >= _MOST_IDS:
            raise FilterError(f"{part!r} are too many ids: --where 'id >= {first} and id <= {last}' takes any number")
        found += range(first, last + 1)
    return tuple(found)


def _bytes(text: str, end: str) -> int:
    if (found := _SIZE.fullmatch(end.strip())) is None:
        raise _no_size(text)
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " "))


def _no_size(text: str) -> FilterError:
    return FilterError(f"{text!r} is no range of sizes: give one such as 1M..5M, +500k or -2G")
