"""An open version of an index: vectors in, ids and scores out."""

import logging
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.layout import IndexFolder, Manifest, SegmentEntry
from imgrec.search.indexes.segment import HNSW, Ids, Mask, Segment, Vectors, open_segment

NO_ID = -1
# Where a filter leaves less than this share of a graph's rows, they are compared one by one: a graph would search
# long among those that are left out, and find too few.
EXACT_BELOW = 0.1
# The rows that are compared at once take no more memory than this.
_EXACT_BYTES = 2**26

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _OpenSegment:
    segment: Segment
    kind: str
    dead: Mask | None  # of each id, whether it is no longer searched
    selector: Any  # a faiss.IDSelector, or None where every row is searched
    kept: Any  # what the selector points to


@dataclass(frozen=True)
class _Narrowed:
    """A segment of which some rows are searched: so many, and where they are few, these."""

    opened: _OpenSegment
    count: int
    few: Ids | None

    @property
    def rows(self) -> Ids:
        return np.flatnonzero(np.unpackbits(self.opened.kept, bitorder="little")) if self.few is None else self.few


@dataclass(frozen=True)
class Allowed:
    """What a filter leaves of a version: how many `images`, a bit for each id, and the rows of each segment."""

    images: int
    bits: NDArray[np.uint8]
    segments: tuple[_Narrowed, ...]

    def contains(self, ids: Ids) -> Mask:
        """Which of these images a search may answer with; ids are 0 or more."""
        inside = ids < 8 * len(self.bits)
        known = np.where(inside, ids, 0)
        found: Mask = inside & (self.bits[known >> 3] >> (known & 7) & 1).astype(bool)
        return found


class IndexReader:
    """Searches one version, for any number of threads; it goes on serving what it opened, whatever is published."""

    def __init__(self, folder: IndexFolder, version: str | None = None) -> None:
        self.manifest: Manifest = folder.read_manifest(version)
        self._segments = [_open(folder, self.manifest, entry) for entry in self.manifest.segments]
        self._parameters: dict[int, list[Any]] = {}  # by efSearch, one a segment: making them anew costs a tenth

    def allow(self, ids: Ids) -> Allowed:
        """Prepare searches among some images only; `ids`, ascending, may name others too."""
        narrowed = tuple(_narrow(opened, ids) for opened in self._segments)
        table = np.zeros(max((int(s.segment.ids.max(initial=0)) + 1 for s in self._segments), default=1), bool)
        for opened in self._segments:
            living = opened.segment.ids if opened.dead is None else opened.segment.ids[~opened.dead]
            table[living[np.isin(living, ids)]] = True
        return Allowed(int(table.sum()), np.packbits(table, bitorder="little"), narrowed)

    def search(self, queries: Vectors, k: int, ef_search: int, allowed: Allowed | None = None) -> tuple[Vectors, Ids]:
        """Return scores and image ids, both (queries, k), best first; short rows end in id -1 and score -inf.

        `queries` is (N, dim) float32 of unit rows. `allowed` is what `allow` made of the images that may be hits.
        """
        ef = max(ef_search, k)
        if allowed is None:
            if (parameters := self._parameters.get(ef)) is None:
                parameters = self._parameters[ef] = [_search_parameters(opened, ef) for opened in self._segments]
            results = [_search(*pair, queries, k) for pair in zip(self._segments, parameters, strict=True)]
        else:
            results = [_search_narrowed(narrowed, queries, k, ef) for narrowed in allowed.segments if narrowed.count]
        if len(results) == 1:
            return results[0]
        if not results:
            return np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), NO_ID, np.int64)
        scores = np.concatenate([result[0] for result in results], axis=1)
        ids = np.concatenate([result[1] for result in results], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)


def open_reader(folder: IndexFolder) -> IndexReader:
    """Open the published version; where that is damaged, the newest one that is whole, with a warning.

    Raises:
        IndexNotFoundError: nothing is published under this name.
        IndexDamagedError: no version is whole.
    """
    damage = None
    for version in folder.versions():
        try:
            reader = IndexReader(folder, version)
        except IndexDamagedError as error:
            damage = damage or error
            continue
        if damage or version != folder.current_version():
            why = damage or f"{folder.pointer} is gone: the next `imgrec ingest` writes it"
            logger.warning("%s; the version of %s serves until then", why, reader.manifest.created)
        return reader
    if damage:
        raise damage
    return IndexReader(folder)  # says that there is none


def _open(folder: IndexFolder, manifest: Manifest, entry: SegmentEntry) -> _OpenSegment:
    segment = open_segment(folder.segment_dir(entry.name), entry.vectors)
    if not entry.tombstones:
        return _OpenSegment(segment, entry.kind, None, None, None)
    dead = folder.read_tombstones(manifest.version, entry)
    bitmap = np.packbits(segment.rows_all_in(dead), bitorder="little")
    rows = faiss.IDSelectorBitmap(segment.index.ntotal, faiss.swig_ptr(bitmap))
    return _OpenSegment(segment, entry.kind, dead, faiss.IDSelectorNot(rows), (bitmap, rows))


def _search_parameters(opened: _OpenSegment, ef: int) -> Any:
    if opened.kind == HNSW:
        return faiss.SearchParametersHNSW(sel=opened.selector, efSearch=ef)
    return faiss.SearchParameters(sel=opened.selector)


def _search(opened: _OpenSegment, parameters: Any, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    return _with_ids(opened, *opened.segment.index.search(queries, k, params=parameters))


def _narrow(opened: _OpenSegment, ids: Ids) -> _Narrowed:
    """Take all images but `ids` for dead."""
    segment = opened.segment
    dead = ~np.isin(segment.ids, ids)
    if opened.dead is not None:
        dead |= opened.dead
    left = ~segment.rows_all_in(dead)
    bitmap, count = np.packbits(left, bitorder="little"), int(left.sum())
    selector = faiss.IDSelectorBitmap(segment.index.ntotal, faiss.swig_ptr(bitmap))
    few = np.flatnonzero(left) if opened.kind != HNSW or count < EXACT_BELOW * len(left) else None
    return _Narrowed(_OpenSegment(segment, opened.kind, dead, selector, bitmap), count, few)


def _search_narrowed(narrowed: _Narrowed, queries: Vectors, k: int, ef: int) -> tuple[Vectors, Ids]:
    """Search the graph; where few rows are left, or it finds too few of them, compare them all."""
    opened = narrowed.opened
    if narrowed.few is not None:
        return _with_ids(opened, *_search_rows(opened, narrowed.few, queries, k))
    # The fewer are left, the more of a graph's candidates are left out.
    candidates = round(max(ef, 2 * k) / np.sqrt(narrowed.count / opened.segment.index.ntotal))
    asked = min(candidates // 2, narrowed.count)
    scores, offsets = opened.segment.index.search(queries, asked, params=_search_parameters(opened, candidates))
    # Where those that are like a query are left out, the graph goes about among them and finds few that are not. Were
    # it near the right ones, it would find more than are asked for.
    lost = np.flatnonzero(offsets[:, -1] < 0)
    scores, offsets = _columns(scores, k, -np.inf), _columns(offsets, k, -1)
    if len(lost):
        scores[lost], offsets[lost] = _search_rows(opened, narrowed.rows, queries[lost], k)
    return _with_ids(opened, scores, offsets)


def _columns(rows: NDArray[Any], k: int, filling: float) -> NDArray[Any]:
    """Cut or fill rows to k columns."""
    missing = max(0, k - rows.shape[1])
    return np.pad(rows[:, :k], ((0, 0), (0, missing)), constant_values=filling)


def _search_rows(opened: _OpenSegment, rows: Ids, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    """Compare the queries with each of these rows, and return what FAISS would: scores and offsets, best first."""
    index = opened.segment.index
    scores, offsets = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    step = max(1, _EXACT_BYTES // (4 * index.d))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        new, found = faiss.knn(queries, index.reconstruct_batch(some), min(k, len(some)), faiss.METRIC_INNER_PRODUCT)
        scores, offsets = np.concatenate([scores, new], axis=1), np.concatenate([offsets, some[found]], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, offsets = np.take_along_axis(scores, best, axis=1), np.take_along_axis(offsets, best, axis=1)
    return scores, offsets


def _with_ids(opened: _OpenSegment, scores: Vectors, offsets: Ids) -> tuple[Vectors, Ids]:
    if opened.segment.has_copies:
        return _with_copies(opened, scores, offsets)
    ids = opened.segment.ids[offsets]
    if any(last < 0 for last in offsets[:, -1].tolist()):  # FAISS ends short rows with offset -1 and the lowest float
        short = offsets < 0
        ids[short] = NO_ID
        scores[short] = -np.inf
    return scores, ids


def _with_copies(opened: _OpenSegment, scores: Vectors, offsets: Ids) -> tuple[Vectors, Ids]:
    """Give every row all of its living ids, and keep the first k."""
    segment, k = opened.segment, scores.shape[1]
    all_scores, all_ids = np.full_like(scores, -np.inf), np.full_like(offsets, NO_ID)
    for query, rows in enumerate(offsets):
        place = 0
        for row, score in zip(rows[rows >= 0], scores[query], strict=False):
            span = slice(segment.starts[row], segment.starts[row + 1])
            ids = segment.ids[span] if opened.dead is None else segment.ids[span][~opened.dead[span]]
            ids = ids[: k - place]
            all_ids[query, place : place + len(ids)] = ids
            all_scores[query, place : place + len(ids)] = score
            place += len(ids)
            if place == k:
                break
    return all_scores, all_ids
