"""From a library to groups of copies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from imgrec.search.duplicates.candidates import Candidates, OnProgress, find_candidates
from imgrec.search.duplicates.contents import Contents, Places
from imgrec.search.duplicates.groups import Group
from imgrec.search.duplicates.judging import Judge
from imgrec.search.duplicates.keeping import DEFAULT_RULES, Rule, parse_rules
from imgrec.search.duplicates.likeness import Likeness
from imgrec.search.duplicates.stars import centrality, crowded_stars, stars
from imgrec.search.duplicates.vectors import IndexedVectors
from imgrec.search.errors import IndexNotFoundError
from imgrec.search.indexes.layout import list_indexes
from imgrec.search.indexes.vectors import Ids
from imgrec.search.names import by_preference
from imgrec.search.queries import explain_no_index
from imgrec.storage.library import Library
from imgrec.storage.registry.duplicates import DIFFERENT, live_ids_by_content, read_contents, read_settled
from imgrec.storage.registry.registry import Registry

# Groups are made for so many photos at once.
_PHOTOS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Asked:
    """What is looked for: copies by an index (default: the library's), from a threshold on (default: the index's), or
    `exact` ones only, which no index is needed for; `rules` say which photo to keep. `settled` groups are left out,
    unless they are asked for, too.
    """

    index: str | None = None
    threshold: float | None = None
    exact: bool = False
    rules: tuple[Rule, ...] = parse_rules(DEFAULT_RULES)
    settled: bool = False


class Duplicates:
    """The groups of a library's copies, as `asked`; the registry stays open as long as they are read.

    Photos that are missing or failed are in none. One that has no vector in this index is among exact copies.

    Raises:
        IndexNotFoundError: near copies are looked for, and there is no such index.
        QueryError: no threshold is known for one of its modalities.
    """

    def __init__(self, library: Library, registry: Registry, asked: Asked, on_progress: OnProgress) -> None:
        self._library, self._registry, self._asked = library, registry, asked
        self._settled = read_settled(registry)
        self._all_ids, first = read_contents(registry)
        self._ids, self._content = np.unique(first, return_inverse=True)
        self._centre = np.arange(len(self._ids))
        self._contents: Contents | None = None
        if not asked.exact:
            vectors = _open_vectors(library, registry, asked.index)
            self._join_near(vectors, Likeness(vectors.members, asked.threshold), on_progress)

    @property
    def photos(self) -> int:
        """How many photos were compared."""
        return len(self._all_ids)

    @property
    def near(self) -> tuple[str, float] | None:
        """The index that said what is near, and its threshold; None where only exact copies were looked for."""
        return None if self._contents is None else (self._contents.vectors.index, self._contents.likeness.threshold)

    def groups(self) -> Iterator[Group]:
        """Yield the groups, by number."""
        lowest = np.full(len(self._ids), np.iinfo(np.int64).max)
        label = self._centre[self._content]
        np.minimum.at(lowest, label, self._all_ids)
        several = np.bincount(label, minlength=len(self._ids)) > 1
        photos = np.flatnonzero(several[label])
        photos = photos[np.argsort(lowest[label[photos]], kind="stable")]
        ends = np.flatnonzero(np.diff(label[photos], append=-1)) + 1
        judge = Judge(self._library, self._registry, self._asked.rules, self._settled)
        start = 0
        for end in _spread(ends.tolist(), _PHOTOS_AT_ONCE):
            some = photos[start:end]
            cuts = ends[(ends > start) & (ends < end)] - start
            together = np.split(self._all_ids[some], cuts)
            yield from judge.groups([ids.tolist() for ids in together], self._score, self._asked.settled)
            start = end

    def _score(self, pairs: Sequence[tuple[int, int]]) -> list[tuple[float, bool]]:
        """Return the scores of pairs of images that are in one star, and which of them are near."""
        assert self._contents is not None
        scores, near = self._contents.judge(self._contents.places(np.asarray(pairs, np.int64)))
        return list(zip(scores.tolist(), near.tolist(), strict=True))

    def _join_near(self, vectors: IndexedVectors, likeness: Likeness, on_progress: OnProgress) -> None:
        """Let the centre of each content be that of the star it is in."""
        has = np.isin(self._ids, vectors.ids(), assume_unique=True)
        place = np.where(has, np.cumsum(has) - 1, -1)
        self._contents = Contents(vectors, likeness, self._ids[has], self._all_ids, place[self._content])
        found = find_candidates(self._contents, on_progress)
        found = _without(found, self._different(self._contents.ids))
        centre = _centres(self._contents, found)
        self._centre[has] = np.flatnonzero(has)[centre[found.same]]

    def _different(self, ids: Ids) -> Places:
        """The pairs of places in `ids` of contents that are different, by the user's word."""
        pairs = [np.empty((0, 2), np.int64)]
        for group in self._settled:
            if group.verdict == DIFFERENT:
                held = np.array(sorted(live_ids_by_content(self._registry, group.contents).values()), np.int64)
                places = np.flatnonzero(np.isin(ids, held, assume_unique=True))
                first, second = np.triu_indices(len(places), 1)
                pairs.append(np.stack([places[first], places[second]], axis=1))
        return np.concatenate(pairs)


def _open_vectors(library: Library, registry: Registry, index: str | None) -> IndexedVectors:
    """Open the index that is named, or else the library's."""
    name = index or next(iter(by_preference(list_indexes(library.indexes_dir))), None)
    try:
        return IndexedVectors(library, registry, name or library.modalities[0])
    except IndexNotFoundError as error:
        raise IndexNotFoundError(explain_no_index(library, registry, name or library.modalities[0])) from error


def _without(found: Candidates, different: Places) -> Candidates:
    """Take out pairs."""
    if not len(different):
        return found
    taken = np.sort(found.same[different], axis=1)
    count = len(found.same)
    left = ~np.isin(found.pairs @ [count, 1], taken @ [count, 1])
    return Candidates(found.same, found.pairs[left], found.scores[left], found.cut)


def _centres(contents: Contents, found: Candidates) -> Places:
    """Return the centre of each content, itself where it is alone."""
    count = len(contents.ids)
    links = coo_array((np.ones(len(found.pairs), bool), tuple(found.pairs.T)), shape=(count, count))
    components, label = connected_components(links, directed=False)
    crowded = np.zeros(components, bool)
    crowded[label[found.cut]] = True
    crowded &= np.bincount(label, minlength=components) > 2
    rank = centrality(count, found.pairs, found.scores)
    listed = ~crowded[label[found.pairs[:, 0]]]
    centre = stars(rank, found.pairs[listed], found.scores[listed])
    among = np.flatnonzero(crowded[label])
    among = among[np.argsort(label[among], kind="stable")]
    for members in np.split(among, np.flatnonzero(np.diff(label[among])) + 1) if len(among) else ():
        centre[members] = crowded_stars(contents, rank, members)
    return centre


def _spread(ends: list[int], at_once: int) -> Iterator[int]:
    """Yield those of the ends (ascending) between which lie about `at_once` things, and the last one."""
    start = 0
    for place, end in enumerate(ends, 1):
        if place == len(ends) or ends[place] - start > at_once:
            yield end
            start = end
