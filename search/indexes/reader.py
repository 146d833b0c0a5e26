"""An open version of an index of one modality: vectors in, ids and scores out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from imgrec.search.indexes.allowed import Allowed, narrow
from imgrec.search.indexes.hits import merge_hits, with_ids
from imgrec.search.indexes.layout import IndexFolder, Manifest, SegmentEntry
from imgrec.search.indexes.segment import Segment, open_segment
from imgrec.search.indexes.threads import one_thread_for
from imgrec.search.indexes.vectors import Ids, Mask, Vectors

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

    def allow(self, ids: Ids) -> Allowed:
        """Prepare searches among some images only; `ids`, ascending, may name others too."""
        parts = [narrow(searched.segment, searched.dead, ids) for searched in self._segments]
        living = [s.segment.ids if s.dead is None else s.segment.ids[~s.dead] for s in self._segments]
        return Allowed.of([some[np.isin(some, ids)] for some in living], parts)

    def search(
        self, queries: Vectors, k: int, ef_search: int | None = None, allowed: Allowed | None = None
    ) -> tuple[Vectors, Ids]:
        """Return scores and image ids, both (queries, k), best first; short rows end in id -1 and score -inf.

        `queries` is (N, dim) float32 of unit rows. `ef_search` is how many candidates are looked at (efSearch of a
        graph); by default as many as the index was tuned to. `allowed` is what `allow` made of the images that may be
        hits.
        """
        if allowed is not None:
            ef_search = max(ef_search or self.manifest.ef_search, k)
            with one_thread_for(len(queries)):
                found = [part.search(queries, k, ef_search) for part in allowed.parts if part.count]
            return merge_hits(found, len(queries), k)
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


def _open(folder: IndexFolder, manifest: Manifest, entry: SegmentEntry) -> _Searched:
    segment = open_segment(folder.segment_dir(entry.name), entry.kind, entry.vectors)
    if not entry.tombstones:
        return _Searched(segment, None, None, None)
    dead = folder.read_tombstones(manifest.version, entry)
    bitmap = np.packbits(segment.rows_all_in(dead), bitorder="little")
    rows = faiss.IDSelectorBitmap(segment.opened.rows, faiss.swig_ptr(bitmap))
    return _Searched(segment, dead, faiss.IDSelectorNot(rows), (bitmap, rows))


def _search(searched: _Searched, queries: Vectors, k: int, parameters: Any) -> tuple[Vectors, Ids]:
    scores, offsets = searched.segment.opened.search(queries, k, parameters)
    return with_ids(searched.segment, searched.dead, scores, offsets)
