"""What came out of a chunk, also as a file beside it, for a driver that runs elsewhere."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imgrec.embedders.errors import ChunkRefusedError
from imgrec.storage.machine.atomic import write_atomic


@dataclass(frozen=True)
class ChunkOutcome:
    """The shards written, how many images got a vector or failed, and the files that changed since the scan."""

    shards: tuple[Path, ...]
    embedded: int
    failed: int
    changed: tuple[str, ...]


def outcome_path(chunk_path: Path) -> Path:
    return chunk_path.with_suffix(".outcome")


def write_outcome(chunk_path: Path, outcome: ChunkOutcome) -> None:
    """Write the outcome beside its chunk, as one step."""
    _write(chunk_path, asdict(outcome) | {"shards": [str(path) for path in outcome.shards]})


def write_refusal(chunk_path: Path, reason: str) -> None:
    """Write, in its place, what no other try and no other machine would change."""
    _write(chunk_path, {"refused": reason})


def read_outcome(chunk_path: Path) -> ChunkOutcome:
    """Read what a worker wrote.

    Raises:
        FileNotFoundError: it has not ended, or was ended.
        ChunkRefusedError: it refused the chunk; the message is its own.
    """
    facts: dict[str, Any] = json.loads(outcome_path(chunk_path).read_bytes())
    if "refused" in facts:
        raise ChunkRefusedError(facts["refused"])
    shards, changed = (tuple(facts[name]) for name in ("shards", "changed"))
    return ChunkOutcome(tuple(map(Path, shards)), facts["embedded"], facts["failed"], changed)


def _write(chunk_path: Path, facts: dict[str, Any]) -> None:
    write_atomic(outcome_path(chunk_path), json.dumps(facts).encode("utf-8", "surrogateescape"))
