"""What the registry knows of copies: which photos have the same content, and which groups a user has settled.

`settled_duplicates`  the contents of settled groups, a row each: photos may be renamed, moved, copied and come back.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.registry.migrations import table_names
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE

# What a user says of a group: leave it as it is, or its pictures are not the same.
LEFT, DIFFERENT = "left", "different"
_TABLE = "settled_duplicates"
_VALUES_PER_QUERY = 500


@dataclass(frozen=True)
class CopyFacts:
    """What is known of a photo that has copies; `path` is printable, `file_path` opens below the folder of photos."""

    id: int
    path: str
    file_path: str
    size: int
    width: int
    height: int
    format: str
    mtime_ns: int
    content_hash: bytes


@dataclass(frozen=True)
class Settled:
    """A group that a user has settled: its contents, what was said of them, and when."""

    number: int
    verdict: str
    settled: str
    contents: frozenset[bytes]


def read_contents(registry: Registry) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of all live photos, ascending, and for each the lowest id of those that have its content."""
    rows = registry.connection.execute(
        f"""SELECT id, min(id) OVER (PARTITION BY content_hash) FROM images INDEXED BY images_content_hash
            WHERE {LIVE} AND content_hash IS NOT NULL"""
    )
    both = np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 2)
    both = both[np.argsort(both[:, 0])]
    return both[:, 0], both[:, 1]


def read_facts(registry: Registry, ids: Sequence[int]) -> dict[int, CopyFacts]:
    """Return what is known of live photos; those that are gone meanwhile are left out."""
    found = {}
    for start in range(0, len(ids), _VALUES_PER_QUERY):
        some = ids[start : start + _VALUES_PER_QUERY]
        rows = registry.connection.execute(
            f"""SELECT id, path, raw_path, size, coalesce(width, 0), coalesce(height, 0), coalesce(format, ''),
                       mtime_ns, content_hash
                FROM images WHERE {LIVE} AND id IN ({",".join("?" * len(some))})""",
            list(some),
        )
        for image_id, path, raw_path, *facts in rows:
            file_path = path if raw_path is None else os.fsdecode(raw_path)
            found[image_id] = CopyFacts(image_id, path, file_path, *facts)
    return found


def live_ids_by_content(registry: Registry, contents: Iterable[bytes]) -> dict[bytes, int]:
    """Map contents to the lowest id of the live photos that have them."""
    lowest: dict[bytes, int] = {}
    for content, image_id in registry.live_ids_of(list(contents)):
        lowest[content] = min(image_id, lowest.get(content, image_id))
    return lowest


def read_settled(registry: Registry) -> list[Settled]:
    """Return the settled groups, in the order in which they were settled; an older registry has none."""
    if _TABLE not in table_names(registry.connection):
        return []
    groups: dict[int, tuple[str, str, set[bytes]]] = {}
    rows = registry.connection.execute(f"SELECT number, verdict, settled, content_hash FROM {_TABLE} ORDER BY number")
    for number, verdict, settled, content in rows:
        groups.setdefault(number, (verdict, settled, set()))[2].add(content)
    return [Settled(number, verdict, when, frozenset(held)) for number, (verdict, when, held) in groups.items()]


def record_settled(registry: Registry, verdict: str, contents: Iterable[bytes]) -> int:
    """Settle a group; return the number that it is known by from then on. To settle it again changes the verdict."""
    held, now = frozenset(contents), datetime.now(UTC).isoformat(timespec="seconds")
    with registry.transaction():
        same = [group.number for group in read_settled(registry) if group.contents == held]
        forget_settled(registry, same)
        (last,) = registry.connection.execute(f"SELECT coalesce(max(number), 0) FROM {_TABLE}").fetchone()
        registry.connection.executemany(
            f"INSERT INTO {_TABLE} (number, content_hash, verdict, settled) VALUES (?, ?, ?, ?)",
            ((last + 1, content, verdict, now) for content in sorted(held)),
        )
    return int(last) + 1


def forget_settled(registry: Registry, numbers: Iterable[int]) -> None:
    """Let groups be as if they had never been settled."""
    registry.connection.executemany(f"DELETE FROM {_TABLE} WHERE number = ?", ((number,) for number in numbers))
