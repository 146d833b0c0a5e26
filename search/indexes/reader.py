"""An open version of an index: vectors in, ids and scores out."""

import logging
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.layout import IndexFolder, Manifest, SegmentEntry
from imgrec.search.indexes.segment import HNSW, Ids, Mask, Segment, Vectors, open_segment

NO_ID = -1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _OpenSegment:
    segment: Segment
    kind: str
    dead: Mask | None  # of each id, whether it is no longer searched
    selector: Any  # a faiss.IDSelector, or None where every row is searched
    kept: Any  # what the selector points to


class IndexReader:
    """Searches one version, for any number of threads; it goes on serving what it opened, whatever is published."""

    def __init__(self, folder: IndexFolder, version: str | None = None) -> None:
        self.manifest: Manifest = folder.read_manifest(version)
        self._segments = [_open(folder, self.manifest, entry) for entry in self.manifest.segments]
        self._parameters: dict[int, list[Any]] = {}  # by efSearch, one a segment: making them anew costs a tenth

    def search(self, queries: Vectors, k: int, ef_search: int) -> tuple[Vectors, Ids]:
        """Return scores and image ids, both (queries, k), best first; short rows end in id -1 and score -inf.

        `queries` is (N, dim) float32 of unit rows.
        """
        ef = max(ef_search, k)
        if (parameters := self._parameters.get(ef)) is None:
            parameters = self._parameters[ef] = [_search_parameters(opened, ef) for opened in self._segments]
        results = [_search(*pair, queries, k) for pair in zip(self._segments, parameters, strict=True)]
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
    scores, offsets = opened.segment.index.search(queries, k, params=parameters)
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
