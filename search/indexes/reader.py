"""An open version of an index of one modality: vectors in, ids and scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from imgrec.search.indexes.kinds.kind import NO_ROW
from imgrec.search.indexes.layout import IndexFolder, Manifest, SegmentEntry
from imgrec.search.indexes.segment import Segment, open_segment
from imgrec.search.indexes.threads import one_thread_for
from imgrec.search.indexes.vectors import Ids, Mask, Offsets, Vectors

NO_ID = -1
# Parameters of searches are kept for so many different efforts and numbers of hits.
_KEPT_PARAMETERS = 64


@dataclass(frozen=True)
class _Searched:
    """A segment, and which of it is searched: `dead` says of each id whether it is not, None that all are."""

    segment: Segment
    dead: Mask | None
    selector: Any  # a faiss.IDSelector, or None where every row is searched
    kept: Any  # what the selector points to


class IndexReader:
    """Searches one version, for any number of threads; it goes on serving what it opened, whatever is published.

    Scores are near the cosines, by a few thousandths where rows are bytes; `search/rescoring.py` has the exact ones.
    """

    def __init__(self, folder: IndexFolder, version: str | Manifest | None = None) -> None:
        self.manifest = version if isinstance(version, Manifest) else folder.read_manifest(version)
        self._segments = [_open(folder, self.manifest, entry) for entry in self.manifest.segments]
        self._parameters: dict[tuple[int, int], list[Any]] = {}  # one a segment

    @property
    def segments(self) -> Sequence[Segment]:
        return [searched.segment for searched in self._segments]

    def search(self, queries: Vectors, k: int, ef_search: int | None = None) -> tuple[Vectors, Ids]:
        """Return scores and image ids, both (queries, k), best first; short rows end in id -1 and score -inf.

        `queries` is (N, dim) float32 of unit rows. `ef_search` is how many candidates are looked at (efSearch of a
        graph); by default as many as the index was tuned to.
        """
        key = k, max(ef_search or self.manifest.ef_search, k)
        if (parameters := self._parameters.get(key)) is None:
            if len(self._parameters) >= _KEPT_PARAMETERS:
                self._parameters.clear()
            parameters = self._parameters[key] = self._make_parameters(*key)
        pairs = zip(self._segments, parameters, strict=True)
        with one_thread_for(len(queries)):
            results = [_search(searched, queries, k, made) for searched, made in pairs]
        return merge_hits(results, len(queries), k)

    def _make_parameters(self, k: int, ef_search: int) -> list[Any]:
        """What each segment is searched with: few of the nearest are in a small one, so fewer candidates find them."""
        largest = max((searched.segment.opened.rows for searched in self._segments), default=0)
        made = []
        for searched in self._segments:
            share = (searched.segment.opened.rows / max(largest, 1)) ** 0.5
            made.append(searched.segment.opened.parameters(k, max(k, round(ef_search * share)), searched.selector))
        return made

    def products(self, query: Vectors, ids: Ids) -> Vectors:
        """The inner products of one query (dim,) with the vectors of images, (N,) float32, NaN where there is none."""
        found = np.full(len(ids), np.nan, np.float32)
        for searched in self._segments:
            places = searched.segment.places_of(ids)
            here = np.flatnonzero(places >= 0)
            if searched.dead is not None:
                here = here[~searched.dead[places[here]]]
            if len(here):
                rows = searched.segment.rows_of(places[here])
                found[here] = searched.segment.opened.products(query, rows)
        return found


def merge_hits(results: Sequence[tuple[Vectors, Ids]], queries: int, k: int) -> tuple[Vectors, Ids]:
    """The k best of several results, each scores and ids of (queries, any number)."""
    if len(results) == 1:
        return results[0]
    if not results:
        return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), NO_ID, np.int64)
    scores = np.concatenate([result[0] for result in results], axis=1)
    ids = np.concatenate([result[1] for result in results], axis=1)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, best, axis=1), np.take_along_axis(ids, best, axis=1)


def _open(folder: IndexFolder, manifest: Manifest, entry: SegmentEntry) -> _Searched:
    segment = open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors)
    if not entry.tombstones:
        return _Searched(segment, None, None, None)
    dead = folder.read_tombstones(manifest.version, entry)
    bitmap = np.packbits(segment.rows_all_in(dead), bitorder="little")
    rows = faiss.IDSelectorBitmap(segment.opened.rows, faiss.swig_ptr(bitmap))
    return _Searched(segment, dead, faiss.IDSelectorNot(rows), (bitmap, rows))


def _search(searched: _Searched, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Ids]:
    segment = searched.segment
    scores, offsets = segment.opened.search(queries, k, parameters)
    if segment.has_copies:
        return _with_copies(searched, scores, offsets)
    ids = segment.ids[offsets]
    if any(last < 0 for last in offsets[:, -1].tolist()):
        ids[offsets == NO_ROW] = NO_ID
    return scores, ids


def _with_copies(searched: _Searched, scores: Vectors, offsets: Offsets) -> tuple[Vectors, Ids]:
    """Give every row all of its living ids, and keep the first k."""
    segment, k = searched.segment, scores.shape[1]
    all_scores, all_ids = np.full_like(scores, -np.inf), np.full_like(offsets, NO_ID)
    for query, rows in enumerate(offsets):
        place = 0
        for row, score in zip(rows[rows >= 0], scores[query], strict=False):
            span = slice(segment.starts[row], segment.starts[row + 1])
            ids = segment.ids[span] if searched.dead is None else segment.ids[span][~searched.dead[span]]
            ids = ids[: k - place]
            all_ids[query, place : place + len(ids)] = ids
            all_scores[query, place : place + len(ids)] = score
            place += len(ids)
            if place == k:
                break
    return all_scores, all_ids
