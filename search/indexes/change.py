"""What differs between a version of an index and the images that are to be in it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgrec.search.indexes.layout import Manifest, SegmentEntry
from imgrec.search.indexes.segment import Segment
from imgrec.search.indexes.vectors import Ids, Mask

# Beyond these the index is built anew.
MAX_TOMBSTONE_SHARE = 0.2


@dataclass(frozen=True)
class Current:
    """The version to build upon; `dead[i]` says of each id of segment i whether it is no longer searched."""

    manifest: Manifest
    segments: tuple[Segment, ...]
    dead: tuple[Mask, ...]

    @property
    def masks(self) -> dict[str, Mask]:
        """`dead` of the segments that have some, by name."""
        pairs = zip(self.manifest.segments, self.dead, strict=True)
        return {entry.name: dead for entry, dead in pairs if entry.tombstones}


@dataclass(frozen=True)
class Change:
    """The live ids against a version: what to add, how many ids go and come back, and `dead` afterwards."""

    added: Ids
    removed: int
    revived: int
    dead: tuple[Mask, ...]
    live: int

    @classmethod
    def between(cls, current: Current, live: Ids, touched: Ids | None = None) -> "Change":
        """Compare a version with the live ids; with `touched`, with those among them, and nothing else changes.

        Both are sorted. A few touched ids are looked up, and no more is read of the segments.
        """
        if touched is None:
            indexed = np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in current.segments)])
            added = live[~np.isin(live, indexed)]
            dead = tuple(~np.isin(segment.ids, live) for segment in current.segments)
        else:
            known = np.zeros(len(live), bool)
            for segment in current.segments:
                known |= segment.places_of(live) >= 0
            added = live[~known]
            dead = tuple(
                _touch(segment, before, touched, live)
                for segment, before in zip(current.segments, current.dead, strict=True)
            )
        pairs = list(zip(dead, current.dead, strict=True))
        return cls(
            added=added,
            removed=sum(int((now & ~before).sum()) for now, before in pairs),
            revived=sum(int((before & ~now).sum()) for now, before in pairs),
            dead=dead,
            live=len(added) + sum(int((~mask).sum()) for mask in dead),
        )

    @property
    def needed(self) -> bool:
        return bool(len(self.added) or self.removed or self.revived)

    @property
    def wants_rebuild(self) -> bool:
        """Whether too much of what is there is dead, or more is small or new than in the large segment."""
        rows = sum(map(len, self.dead))
        tombstones = sum(int(mask.sum()) for mask in self.dead)
        large = len(self.dead[0]) if self.dead else 0
        return rows - large + len(self.added) > large or tombstones > rows * MAX_TOMBSTONE_SHARE

    def keep(self, segments: Sequence[SegmentEntry]) -> tuple[list[SegmentEntry], dict[str, Mask]]:
        """Return the segments that still hold a live id, and the masks of those that hold a dead one."""
        kept, masks = [], {}
        for entry, dead in zip(segments, self.dead, strict=True):
            count = int(dead.sum())
            if count < entry.vectors:
                kept.append(replace(entry, tombstones=count))
                if count:
                    masks[entry.name] = dead
        return kept, masks


def _touch(segment: Segment, dead: Mask, touched: Ids, live: Ids) -> Mask:
    places = segment.places_of(touched)
    here = places >= 0
    after = dead.copy()
    after[places[here]] = ~np.isin(touched[here], live)
    return after
