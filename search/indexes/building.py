"""Build an index's large segment from all of its vectors: of which kind, and how many candidates searches look at."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgrec.search.indexes.kinds.catalogue import kind_of
from imgrec.search.indexes.kinds.graph import REDUCED_DIM
from imgrec.search.indexes.kinds.kind import Training
from imgrec.search.indexes.layout import IndexFolder, Made, Manifest, Member, SegmentEntry
from imgrec.search.indexes.opening import open_version
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.reduction import train_reduction
from imgrec.search.indexes.rescoring import ExactScores
from imgrec.search.indexes.segment import build_segment
from imgrec.search.indexes.source import from_blobs, from_shards, sample
from imgrec.search.indexes.truth import K, Truth
from imgrec.search.indexes.tuning import Tuned, tune
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.storage.registry.registry import Registry

# So few vectors are compared one by one faster than a graph is worth its building.
EXACT_BELOW = 5_000
# What a segment learns from: no more vectors, and no more memory.
MAX_SAMPLE_ROWS = 32_768
MAX_SAMPLE_BYTES = 2**28
# A graph is tried where its reduced rows keep this share of true neighbours among so many of the nearest.
REDUCED_CANDIDATES = 64
_QUERIES_OF_REDUCTION = 200
_ROWS_OF_REDUCTION = 8_192
# A batch of vectors takes no more memory than this, however long they are.
MAX_BATCH_BYTES = 2**26

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """All vectors of an index: those of the images `live` (sorted ids) that the registry and the shards have."""

    registry: Registry
    shards_dir: Path
    members: Sequence[Member]
    live: Ids
    batch_size: int

    @property
    def dim(self) -> int:
        return sum(member.dim for member in self.members)

    def of(self, live: Ids) -> "Source":
        """The same of these images."""
        return replace(self, live=live)

    def batches(self) -> Iterator[tuple[Ids, Vectors]]:
        size = min(self.batch_size, max(256, MAX_BATCH_BYTES // (4 * self.dim)))
        if len(self.members) == 1:
            return from_shards(self.registry, self.shards_dir, self.members[0], self.live, size)
        return from_blobs(self.registry, self.members, self.live, size)

    def sample(self) -> tuple[Ids, Vectors]:
        """Ids and vectors to learn from, spread over all."""
        rows = min(MAX_SAMPLE_ROWS, max(1_024, MAX_SAMPLE_BYTES // (4 * self.dim)))
        return sample(self.registry, self.members, self.live, rows)


def build_index(folder: IndexFolder, source: Source, parameters: IndexParameters) -> tuple[SegmentEntry, Made]:
    """Write the large segment of an index, and say of which kind it is and why.

    `auto` takes the first kind that reaches the asked recall: exact search for few vectors; a graph, where its reduced
    rows keep the neighbours; inverted lists; else exact search after all.
    """
    ids, vectors = source.sample()
    training = Training(vectors, len(source.live), parameters.hnsw_m, parameters.ef_construction)
    truth = _truth(ids, vectors, parameters.recall_sample)
    tried: list[str] = []
    for kind, why in _kinds(source, training, parameters):
        name = folder.new_segment_name()
        batches = source.batches() if tried else truth.watch(source.batches())
        images = build_segment(folder.segment_dir(name), kind_of(kind), batches, training)
        entry = SegmentEntry(name, kind, images)
        draft = folder.new_manifest(source.members, {}, {}, [entry], Made(kind, "", 0, None))
        tuned = tune(open_version(folder, draft), ExactScores(source.registry, source.members), truth, parameters)
        reached = tuned.recall is None or tuned.recall >= parameters.target_recall
        if reached or parameters.index_type != "auto" or kind in ("exact", "graph-only"):
            return entry, _made(kind, why, tuned, tried, parameters)
        tried.append(f"{kind} finds {tuned.recall:.3f} of the nearest at best")
        folder.remove_segment(name)
    raise AssertionError("exact search is the last kind that is tried")


def outgrows(manifest: Manifest, live: int, parameters: IndexParameters) -> bool:
    """Whether an index that was left to exact search for its size is to be something quicker by now."""
    was_small = sum(entry.vectors for entry in manifest.segments[:1]) < EXACT_BELOW <= live
    return parameters.index_type == "auto" and manifest.kind == "exact" and was_small


def _kinds(source: Source, training: Training, parameters: IndexParameters) -> Iterator[tuple[str, str]]:
    """The kinds to try, and the reason for each."""
    if len(source.members) > 1:
        yield "graph-only", "the rows of a combination lie in its modalities' indexes, which give candidates too"
        return
    if parameters.index_type != "auto":
        yield parameters.index_type, "asked for"
        return
    count = len(source.live)
    if count < EXACT_BELOW:
        yield "exact", f"{count:,} vectors are compared one by one in no time"
        return
    kept = _kept_by_reduction(training.sample)
    if kept >= parameters.target_recall:
        yield "graph", f"{REDUCED_DIM} dimensions keep {kept:.3f} of the nearest"
        yield "inverted", "inverted lists find enough"
    else:
        yield "inverted", f"{REDUCED_DIM} dimensions keep only {kept:.3f} of the nearest, too few for a graph"
    yield "exact", "nothing quicker finds enough"


def _kept_by_reduction(vectors: Vectors) -> float:
    """The share of true neighbours that are among the nearest after reducing, both found exactly in the sample."""
    rows = vectors[:: max(1, len(vectors) // _ROWS_OF_REDUCTION)]
    reduced = train_reduction(rows, REDUCED_DIM).reduce(rows)
    queries = np.linspace(0, len(rows) - 1, min(_QUERIES_OF_REDUCTION, len(rows))).astype(np.int64)
    true = rows[queries] @ rows.T
    true[np.arange(len(queries)), queries] = -np.inf
    near = reduced[queries] @ reduced.T - (reduced**2).sum(axis=1) / 2
    near[np.arange(len(queries)), queries] = -np.inf
    count = min(REDUCED_CANDIDATES, len(rows) - 1)
    candidates = np.argpartition(-near, count, axis=1)[:, :count]
    found = -np.sort(-np.take_along_axis(true, candidates, axis=1), axis=1)[:, :K]
    best = -np.sort(-true, axis=1)[:, :K]
    return float((found >= best[:, -1:] - 1e-6).mean())


def _truth(ids: Ids, vectors: Vectors, queries: int) -> Truth:
    chosen = np.unique(np.linspace(0, len(ids) - 1, min(queries, len(ids))).astype(np.int64)) if len(ids) else ids
    return Truth(ids[chosen], np.ascontiguousarray(vectors[chosen]))


def _made(kind: str, why: str, tuned: Tuned, tried: Sequence[str], parameters: IndexParameters) -> Made:
    if tuned.recall is not None and tuned.recall < parameters.target_recall:
        logger.warning(
            "a %s index finds %.3f of the nearest with %s candidates, less than target_recall = %g",
            kind, tuned.recall, f"{tuned.ef_search:,}", parameters.target_recall,
        )  # fmt: skip
    return Made(kind, "; ".join([*tried, why]), tuned.ef_search, tuned.recall)
