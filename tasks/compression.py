"""Vectors to learn compression from: drawn from shards into a file, parted by picture."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.compression.methods import parse_variant
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.search.evaluation.splitting import hold_out
from imgrec.storage.library import Library
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.shards import list_shards, read_contents, read_shard

LEARNT_AT_MOST = 200_000
HELD_OUT_SHARE, HELD_OUT_AT_MOST = 0.2, 5_000


@dataclass(frozen=True)
class LearningRows:
    """Unit rows (N, dim) float32 to learn from, mapped, and others (M, dim) that only judge; near-copies are on one
    side. `fingerprint` is that of the vectors."""

    fingerprint: str
    learnt: NDArray[np.float32]
    held_out: NDArray[np.float32]


@contextmanager
def learning_rows(library: Library, modality: str, seed: int = 0) -> Iterator[LearningRows]:
    """Copy the source's vectors from shards into a temporary file: one shard is in memory at a time.

    Raises:
        EmbedderParameterError: the source is none of the library's modalities.
    """
    source, _, _ = parse_variant(modality)
    if source not in library.modalities:
        raise EmbedderParameterError(
            f"{modality}: the library has no {source}: `imgrec ingest --modality {source}` first"
        )
    spec = create_embedder(source, library.vector_settings, library.models_dir).spec
    paths = list(list_shards(library.shards_dir, spec.fingerprint))
    total = sum(len(read_contents(path).embedded) for path in paths)
    with tempfile.TemporaryDirectory(prefix="imgrec-compress-") as folder:
        file = Path(folder) / "rows.f32"
        with file.open("wb") as rows:
            count = 0
            for path in paths:
                vectors = read_shard(path).vectors
                rows.write(np.ascontiguousarray(vectors, np.float32).data)
                count += len(vectors)
        assert count == total or not paths
        shape = (count, spec.dim)
        mapped = np.memmap(file, np.float32, "r", shape=shape) if count else np.empty(shape, np.float32)
        held = hold_out(mapped, HELD_OUT_SHARE, HELD_OUT_AT_MOST, seed)
        left = np.setdiff1d(np.arange(count), held.near)
        if len(left) > LEARNT_AT_MOST:
            left = np.sort(np.random.default_rng(seed).choice(left, LEARNT_AT_MOST, replace=False))
        kept = np.memmap(Path(folder) / "learnt.f32", np.float32, "w+", shape=(max(len(left), 1), spec.dim))
        for start in range(0, len(left), 4_096):
            kept[start : start + 4_096][:] = mapped[left[start : start + 4_096]]
        yield LearningRows(spec.fingerprint, kept[: len(left)], np.array(mapped[held.rows], np.float32))


def study_path(library: Library) -> Path:
    """Where the studies of a library are, in SQLite."""
    return library.root / "compression-studies.sqlite"


def remember(library: Library, modality: str, parameters: dict[str, Any]) -> None:
    """Keep the best parameters of a study, which `train` takes."""
    known = _remembered(library) | {modality: parameters}
    write_atomic(_best_path(library), json.dumps(known, indent=2, sort_keys=True).encode())


def remembering(library: Library, modality: str) -> dict[str, Any]:
    """The best parameters of the last study of this modality; none where there was no study."""
    return dict(_remembered(library).get(modality, {}))


def _remembered(library: Library) -> dict[str, Any]:
    path = _best_path(library)
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def _best_path(library: Library) -> Path:
    return library.root / "compression-best.json"
