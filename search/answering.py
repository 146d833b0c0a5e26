"""The hits of queries whose vectors are there: one search for all of them, then exact scores and paths."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgrec.search.answers import Answer, Hit
from imgrec.search.errors import QueryError
from imgrec.search.fusion import query_row
from imgrec.search.indexes.rescoring import SPARE, ExactScores, rescore
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.names import in_order
from imgrec.search.queries import Query
from imgrec.search.reranking import LENGTH, rank_anew
from imgrec.search.selecting import Picked, Picker, Selection
from imgrec.search.serving import OpenIndex
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.registry_pool import RegistryPool


@dataclass(frozen=True)
class Request:
    """One call, which is answered from one version of an index.

    `weights` are shares by modality that sum to 1, or None for the index's own; with `expand`, longer lists are ranked
    anew.
    """

    current: OpenIndex
    registries: RegistryPool
    ef_search: int
    top_k: int
    selection: Selection
    weights: Mapping[str, float] | None = None
    expand: bool = False

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Answer all queries by one search of the index; each takes its share of the milliseconds.

        Raises:
            QueryError: a query has none of the modalities that count.
        """
        if not queries:
            return []
        started = time.perf_counter()
        rows = np.concatenate([self._row(query) for query in queries])
        with self.registries.reader() as registry:
            exact = ExactScores(registry, self.current.members)
            hits = self._hits(exact, rows, queries)
            found = [tuple(self._with_scores(exact, *pair)) for pair in zip(queries, hits, strict=True)]
        search_ms = (time.perf_counter() - started) * 1e3 / len(queries)
        return [
            Answer(
                query=query.text,
                root=self.current.library.roots.only,
                file=query.file,
                index=self.current.folder.name,
                version=self.current.manifest.version,
                ef_search=self.ef_search,
                hits=some,
                decode_ms=query.decode_ms,
                embed_ms=query.embed_ms,
                search_ms=search_ms,
            )
            for query, some in zip(queries, found, strict=True)
        ]

    def hits(self, vectors: Vectors) -> list[list[Hit]]:
        """Return the hits of each row of the index' dim."""
        with self.registries.reader() as registry:
            return self._hits(ExactScores(registry, self.current.members), vectors)

    def check(self, query: Query) -> Query | QueryError:
        """Return the query, or why it cannot be answered: it has none of the modalities that count."""
        if self.weights and not any(self.weights.get(modality) for modality in query.vectors):
            counted = ", ".join(in_order(modality for modality, weight in self.weights.items() if weight))
            return QueryError(f"query {query.text}: it has no {counted}, and nothing else counts with these weights")
        return query

    def _row(self, query: Query) -> Vectors:
        checked = self.check(query)
        if isinstance(checked, QueryError):
            raise checked
        return query_row(self.current.members, query.vectors, self.weights)

    def _hits(self, exact: ExactScores, vectors: Vectors, queries: Sequence[Query] = ()) -> list[list[Hit]]:
        """Return the hits of each row; `queries` says whose rows they are."""
        rows = self._pick(exact, vectors, queries)
        paths = iter(exact.registry.paths([hit.id for row in rows for hit in row]))
        members, roots = self.current.members, self.current.library.roots
        only = members[0].modality if len(members) == 1 else None
        return [
            [
                Hit(rank, hit.id, path[0], hit.score, {only: hit.score} if only else {}, *place, hit.copies)
                for rank, (hit, path) in enumerate(zip(row, paths, strict=False), 1)
                if path is not None and (place := roots.place(path[1])) is not None
            ]
            for row in rows
        ]

    def _pick(self, exact: ExactScores, vectors: Vectors, queries: Sequence[Query]) -> list[list[Picked]]:
        def find(rows: Vectors, k: int) -> tuple[Vectors, Ids]:
            return self._find(exact, rows, k)

        if self.selection.picks:
            own = [_own(exact.registry, query, self.selection) for query in queries] or [()] * len(vectors)
            rows = Picker(find, exact.registry, self.top_k, self.selection).pick(vectors, own)
            return [[Picked(hit.id, _clip(hit.score), hit.copies) for hit in row] for row in rows]
        scores, ids = find(vectors, self.top_k)
        pairs = zip(ids.tolist(), scores.tolist(), strict=True)
        return [[Picked(i, _clip(score)) for i, score in zip(*pair, strict=True)] for pair in pairs]

    def _find(self, exact: ExactScores, vectors: Vectors, k: int) -> tuple[Vectors, Ids]:
        """The index finds more than are asked for; exact scores say which are the best."""
        wanted = max(k, LENGTH) if self.expand else k
        _, ids = self.current.reader.search(vectors, wanted + SPARE, self.ef_search, self.selection.allowed)
        scores, ids = rescore(exact, vectors, ids, wanted)
        if self.expand:
            pairs = zip(vectors, ids, strict=True)
            places = np.stack([rank_anew(exact.registry, self.current.members, *pair) for pair in pairs])[:, :k]
            scores, ids = np.take_along_axis(scores, places, axis=1), np.take_along_axis(ids, places, axis=1)
        return scores, ids

    def _with_scores(self, exact: ExactScores, query: Query, hits: list[Hit]) -> list[Hit]:
        """Add the scores that the hits do not have yet, of every modality of the query and of the index."""
        modalities = {*(member.modality for member in self.current.members), *query.vectors}
        missing = in_order(modality for modality in modalities if hits and modality not in hits[0].scores)
        if not missing:
            return hits
        ids = [hit.id for hit in hits]
        scores = {modality: _score(exact, self.current, query, modality, ids) for modality in missing}
        return [
            hit._replace(scores={**hit.scores, **{modality: scores[modality][hit.id] for modality in missing}})
            for hit in hits
        ]


def _score(
    exact: ExactScores, current: OpenIndex, query: Query, modality: str, ids: Sequence[int]
) -> dict[int, float | None]:
    """Return the cosine of each image to the query, from stored vectors; None where either has no vector."""
    scores: dict[int, float | None] = dict.fromkeys(ids)
    if (vector := query.vectors.get(modality)) is None:
        return scores
    stored = exact.vectors(modality, current.queries.fingerprints[modality], ids)
    return scores | {image_id: _clip(float(vector @ other)) for image_id, other in stored.items()}


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
