"""The hits of queries whose vectors are there: one search for all of them, then paths and scores."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from imgrec.search.answers import Answer, Hit
from imgrec.search.fusion import combine
from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.segment import Vectors
from imgrec.search.names import in_order
from imgrec.search.queries import Query
from imgrec.search.selecting import Picked, Picker, Selection
from imgrec.search.serving import OpenIndex
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.registry_pool import RegistryPool


@dataclass(frozen=True)
class Request:
    """One call, which is answered from one version of an index."""

    current: OpenIndex
    registries: RegistryPool
    ef_search: int
    top_k: int
    selection: Selection

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer all queries by one search of the index; each takes its share of the milliseconds."""
        if not queries:
            return []
        started = time.perf_counter()
        rows = np.concatenate([_combine(self.current.members, query) for query in queries])
        found = [
            tuple(self._with_scores(query, hits)) for query, hits in zip(queries, self.hits(rows, queries), strict=True)
        ]
        search_ms = (time.perf_counter() - started) * 1e3 / len(queries)
        return [
            Answer(
                query=query.text,
                root=self.current.library.images_root,
                file=query.file,
                index=self.current.folder.name,
                version=self.current.manifest.version,
                ef_search=self.ef_search,
                hits=hits,
                decode_ms=query.decode_ms,
                embed_ms=query.embed_ms,
                search_ms=search_ms,
            )
            for query, hits in zip(queries, found, strict=True)
        ]

    def hits(self, vectors: Vectors, queries: Sequence[Query] = ()) -> list[list[Hit]]:
        """Return the hits of each row; `queries` says whose rows they are."""
        with self.registries.reader() as registry:
            rows = self._find(registry, vectors, queries)
            paths = iter(registry.paths([image_id for row in rows for image_id, _, _ in row]))
        root = f"{self.current.library.images_root.rstrip('/')}/"
        members = self.current.members
        only = members[0].modality if len(members) == 1 else None
        return [
            [
                Hit(rank, image_id, path[0], score, {only: score} if only else {}, root + path[1], copies)
                for rank, ((image_id, score, copies), path) in enumerate(zip(row, paths, strict=False), 1)
                if path is not None
            ]
            for row in rows
        ]

    def _find(
        self, registry: Registry, vectors: Vectors, queries: Sequence[Query]
    ) -> Sequence[Sequence[tuple[int, float, int | None]]]:
        reader, selection = self.current.reader, self.selection
        if selection.picks:
            own = [_own(registry, query, selection) for query in queries] or [()] * len(vectors)
            rows = Picker(reader, registry, self.ef_search, self.top_k, selection).pick(vectors, own)
            return [[Picked(hit.id, _clip(hit.score), hit.copies) for hit in row] for row in rows]
        scores, ids = reader.search(vectors, self.top_k, self.ef_search, selection.allowed)
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        return [[(i, _clip(score), None) for i, score in zip(*pair, strict=True)] for pair in pairs]

    def _with_scores(self, query: Query, hits: list[Hit]) -> list[Hit]:
        """Add the scores that the hits do not have yet, of every modality of the query and of the index."""
        modalities = {*(member.modality for member in self.current.members), *query.vectors}
        missing = in_order(modality for modality in modalities if hits and modality not in hits[0].scores)
        if not missing:
            return hits
        ids = [hit.id for hit in hits]
        with self.registries.reader() as registry:
            scores = {modality: _score(registry, self.current, query, modality, ids) for modality in missing}
        return [
            hit._replace(scores={**hit.scores, **{modality: scores[modality][hit.id] for modality in missing}})
            for hit in hits
        ]


def _combine(members: Sequence[Member], query: Query) -> Vectors:
    """Return the query's (1, dim) row for an index, whose product with an image's row is the score.

    A modality that the query lacks is weighed out, so that it scores 1 against itself.
    """
    found = query.vectors
    if len(members) == 1:
        return found[members[0].modality][np.newaxis]
    parts = {m.modality: found.get(m.modality, np.zeros(m.dim, np.float32))[np.newaxis] for m in members}
    share = sum(member.weight for member in members if member.modality in found)
    return combine(members, parts) / np.float32(share)


def _score(
    registry: Registry, current: OpenIndex, query: Query, modality: str, ids: Sequence[int]
) -> dict[int, float | None]:
    """Return the cosine of each image to the query, from stored vectors; None where either has no vector."""
    scores: dict[int, float | None] = dict.fromkeys(ids)
    if (vector := query.vectors.get(modality)) is None:
        return scores
    stored = registry.vectors(modality, current.queries.fingerprints[modality], ids)
    return scores | {image_id: min(1.0, max(-1.0, float(vector @ other))) for image_id, other in stored.items()}


def _own(registry: Registry, query: Query, selection: Selection) -> Collection[int]:
    """The images that are the query itself."""
    if not selection.not_itself:
        return ()
    contents = [*query.content_hashes]
    if selection.collapse_copies:
        contents += registry.content_hashes(query.image_ids).values()
    return {*query.image_ids, *(image_id for _, image_id in registry.live_ids_of(contents))}


def _clip(score: float) -> float:
    """Keep rounding from making more of a cosine than 1; for a few hits numpy would take longer."""
    return max(-1.0, min(1.0, score))
