"""Add to an index without touching what is there: small segments, which merge among themselves.

The last segment grows while it is small: it is copied with the new rows inserted, which costs no more than it holds.
When it is full, the next one begins. When there are several full ones of about a size, they merge into one. So an add
costs what the rows added cost, and a search looks into few segments: after n adds, some log(n).
"""

from collections.abc import Sequence
from math import log
from pathlib import Path

import numpy as np

from imgrec.search.indexes.building import Source
from imgrec.search.indexes.change import Change, Current
from imgrec.search.indexes.kinds.catalogue import kind_of
from imgrec.search.indexes.kinds.kind import Training
from imgrec.search.indexes.layout import IndexFolder, SegmentEntry
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.segment import build_segment, open_segment
from imgrec.search.indexes.vectors import Ids, Mask

# A segment takes rows until it has so many, by kind: a graph is quick to search at any size, exact search is not.
FULL_ROWS = {"graph": 8_192, "graph-only": 8_192, "hnsw": 8_192, "exact": 2_048}
# So many segments of about a size merge; the next size is so many times as large.
MERGE_FACTOR = 4


def add_to(
    folder: IndexFolder, source: Source, current: Current, change: Change, parameters: IndexParameters
) -> tuple[list[SegmentEntry], dict[str, Mask]]:
    """Write what was added; return the segments of the new version and the masks of those with tombstones."""
    segments, masks = change.keep(current.manifest.segments)
    if len(change.added) == 0:
        return segments, masks
    adding = _Adding(folder, source, parameters, current, segments, masks)
    adding.add(change.added)
    adding.merge()
    return adding.segments, adding.masks


class _Adding:
    def __init__(
        self,
        folder: IndexFolder,
        source: Source,
        parameters: IndexParameters,
        current: Current,
        segments: list[SegmentEntry],
        masks: dict[str, Mask],
    ) -> None:
        self._folder = folder
        self._source = source
        self._parameters = parameters
        self._kind = current.manifest.kind
        self._small = self._kind if self._kind in FULL_ROWS else "exact"
        self._large = folder.segment_dir(current.manifest.segments[0].name)
        self.segments = segments
        self.masks = masks

    def add(self, added: Ids) -> None:
        """Write the rows into a copy of the last segment, if that has room, or into the next one."""
        last = self.segments[-1] if self.segments else None
        grows = last is not None and last.kind == self._small and last.vectors + len(added) <= FULL_ROWS[self._small]
        if grows:
            self._write(added, self._small, self.segments.pop())
        else:
            self._write(added, self._small if len(added) <= FULL_ROWS[self._small] else self._kind)

    def merge(self) -> None:
        """Merge full segments of about a size, as long as there are several."""
        while len(group := self._group_to_merge()) >= MERGE_FACTOR:
            ids = np.sort(np.concatenate([self._live_ids(entry) for entry in group]))
            place = self.segments.index(group[0])
            for entry in group:
                self.segments.remove(entry)
                self.masks.pop(entry.name, None)
            growing, self.segments = self.segments[place:], self.segments[:place]
            self._write(ids, self._kind)
            self.segments += growing

    def _group_to_merge(self) -> Sequence[SegmentEntry]:
        """The small segments of the smallest size of which there are enough; the large one and the last are left."""
        by_size: dict[int, list[SegmentEntry]] = {}
        for entry in self.segments[1:-1]:
            by_size.setdefault(_size_class(entry.vectors / FULL_ROWS[self._small]), []).append(entry)
        return next((group for _, group in sorted(by_size.items()) if len(group) >= MERGE_FACTOR), ())

    def _write(self, added: Ids, kind: str, base: SegmentEntry | None = None) -> None:
        name, source = self._folder.new_segment_name(), self._source.of(added)
        training = Training(
            sample=np.empty((0, source.dim), np.float32) if kind == self._small else source.sample()[1],
            expected=len(added),
            hnsw_m=self._parameters.hnsw_m,
            ef_construction=self._parameters.ef_construction,
            like=self._large if kind == self._small else None,
            base=None if base is None else self._dir(base.name),
        )
        images = build_segment(self._dir(name), kind_of(kind), source.batches(), training)
        dead = 0 if base is None else self._carry_mask(base, name, kind, images)
        self.segments.append(SegmentEntry(name, kind, images, dead))

    def _carry_mask(self, base: SegmentEntry, name: str, kind: str, images: int) -> int:
        """Give the copy of a segment the tombstones of the segment; return how many."""
        mask = self.masks.pop(base.name, None)
        if mask is None:
            return 0
        dead = open_segment(self._dir(base.name), base.kind, base.vectors).ids[mask]
        self.masks[name] = np.isin(open_segment(self._dir(name), kind, images).ids, dead)
        return len(dead)

    def _live_ids(self, entry: SegmentEntry) -> Ids:
        ids = open_segment(self._dir(entry.name), entry.kind, entry.vectors).ids
        return ids[~self.masks[entry.name]] if entry.name in self.masks else ids

    def _dir(self, segment: str) -> Path:
        return self._folder.segment_dir(segment)


def _size_class(fulls: float) -> int:
    """0 for a segment that is about full, 1 for one that several merged into, and so on."""
    return max(0, round(log(max(fulls, 1), MERGE_FACTOR)))
