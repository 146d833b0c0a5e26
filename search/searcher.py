"""Queries → hits: the library call behind the command, the task and the flow."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgrec.embedders.machine import Machine
from imgrec.search.answers import Answer, Hit
from imgrec.search.errors import QueryError
from imgrec.search.fusion import query_row
from imgrec.search.indexes.rescoring import SPARE, ExactScores, rescore
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.names import in_order
from imgrec.search.pictures import Picture
from imgrec.search.queries import Limits, Query
from imgrec.search.reranking import LENGTH, rank_anew
from imgrec.search.serving import OpenIndex, Serving
from imgrec.search.terms import Term
from imgrec.search.weights import weights_of
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry_pool import RegistryPool

# With weights of their own, searches look at no fewer candidates of each modality (benchmarks.fusion).
EF_WITH_WEIGHTS = 128


class Searcher:
    """Answers queries from a library's index. Keeps it open; a version published meanwhile is taken up by itself.

    Where no index is named it is the one of most modalities that is not damaged, or `for_text` the one that reads text;
    when that becomes another one, or the library gets modalities, it is followed within a second.

    Any number of threads may share one: each call answers from one version, whatever is published meanwhile. Close it
    in the end, or use it in a `with` block; calls that are under way then finish.

    Raises:
        LibraryNotFoundError: there is no library.
        IndexNotFoundError: it has no index of this name, or none that reads text.
    """

    def __init__(
        self,
        library: Path | str,
        index: str | None = None,
        ef_search: int | None = None,
        max_megapixels: float = 256,
        decode_timeout_s: float = 60,
        machine: Machine = Machine(),
        for_text: bool = False,
    ) -> None:
        root, limits = Path(library), Limits(max_megapixels, decode_timeout_s)
        self._ef_search = ef_search
        self._registries = RegistryPool(open_library(root).registry_path)
        try:
            self._serving = Serving(root, index, for_text, limits, machine, self._registries)
        except BaseException:
            self._registries.close()
            raise

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index and the registry; twice does no harm. A call after it raises SearcherClosedError."""
        self._serving.close()
        self._registries.close()

    @property
    def library(self) -> Library:
        return self._serving.open.library

    @property
    def index(self) -> str:
        return self._serving.open.folder.name

    @property
    def photos(self) -> int:
        """How many photos the index has, and so an answer hits at most."""
        return self._serving.open.manifest.live

    @property
    def ef_search(self) -> int:
        return self._ef_of(self._serving.open)

    def search(
        self,
        queries: Sequence[Picture],
        top_k: int = 10,
        all_scores: bool = False,
        weights: Mapping[str, float] | None = None,
        expand: bool = False,
    ) -> list[Answer]:
        """Find the `top_k` images most like each query: an image file's path, its bytes, the open file, RGB pixels
        ((H, W, 3) uint8), or `id:N` of the library.

        With `all_scores`, hits of image files carry the scores of every modality that the library has, not only of
        the index's; those of `id:N` always do. `weights` (by modality) count instead of the index's own; scores are the
        same as those of a combination that was made with them. With `expand`, a longer list is ranked anew by what its
        photos have for neighbours (search/reranking.py), so scores no longer fall from hit to hit.

        Raises:
            QueryError: a query is neither a readable image nor a known id, or has none of the modalities that count;
                or there are weights for modalities that the index has not.
        """
        current = self._serving.current()
        shares = None if weights is None else weights_of(weights, [member.modality for member in current.members])
        prepared = [current.queries.embed(query, all_scores) for query in queries]
        return [self._answer(current, query, top_k, shares, expand) for query in prepared]

    def search_terms(
        self,
        terms: Sequence[Term],
        top_k: int = 10,
        weights: Mapping[str, float] | None = None,
        expand: bool = False,
    ) -> Answer:
        """Find the `top_k` images most like one mixture of words and pictures.

        Scores are cosines to the weighted sum of the terms' unit vectors, one sum a modality. `expand`: see `search`.

        Raises:
            QueryError: a picture is neither readable nor a known id, or the terms cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
        """
        current = self._serving.current()
        shares = None if weights is None else weights_of(weights, [member.modality for member in current.members])
        return self._answer(current, current.queries.embed_terms(terms), top_k, shares, expand)

    def search_vectors(self, vectors: Vectors, top_k: int = 10) -> list[list[Hit]]:
        """Find the `top_k` images nearest to each row of `vectors`: (N, dim of the index) float32, L2 norm 1.

        Hits of a combined index carry no scores of its modalities here. Open the Searcher with the index' name: without
        one, another index may become the library's default, of another dim.

        Raises:
            QueryError: the vectors are not of the index' dim.
        """
        current = self._serving.current()
        if vectors.ndim != 2 or vectors.shape[1] != current.manifest.dim:
            shape, dim = " × ".join(map(str, vectors.shape)), current.manifest.dim
            raise QueryError(f"vectors of shape {shape}: index {current.folder.name} is searched for rows of {dim}")
        with self._registries.reader() as registry:
            exact = ExactScores(registry, current.members)
            return self._hits(current, exact, vectors, top_k, self._ef_of(current))

    def _ef_of(self, current: OpenIndex, weights: Mapping[str, float] | None = None) -> int:
        """How many candidates are looked at: more with other weights than those that a graph was built for."""
        tuned = current.manifest.ef_search
        return self._ef_search or (tuned if weights is None else max(tuned, EF_WITH_WEIGHTS))

    def _hits(
        self,
        current: OpenIndex,
        exact: ExactScores,
        vectors: Vectors,
        top_k: int,
        ef_search: int,
        expand: bool = False,
    ) -> list[list[Hit]]:
        wanted = max(top_k, LENGTH) if expand else top_k
        _, ids = current.reader.search(vectors, wanted + SPARE, ef_search)
        scores, ids = rescore(exact, vectors, ids, wanted)
        if expand:
            pairs = zip(vectors, ids, strict=True)
            places = np.stack([rank_anew(exact.registry, current.members, *pair) for pair in pairs])[:, :top_k]
            scores, ids = np.take_along_axis(scores, places, axis=1), np.take_along_axis(ids, places, axis=1)
        id_rows = ids.tolist()
        paths = iter(exact.registry.paths([image_id for row in id_rows for image_id in row]))
        roots = current.library.roots
        only = current.members[0].modality if len(current.members) == 1 else None
        return [
            [
                Hit(rank, image_id, path[0], score, {only: score} if only else {}, *place)
                for rank, (image_id, score, path) in enumerate(zip(id_row, score_row, paths, strict=False), 1)
                if path is not None and (place := roots.place(path[1])) is not None
            ]
            for id_row, score_row in zip(id_rows, map(_clipped, scores.tolist()), strict=True)
        ]

    def _answer(
        self, current: OpenIndex, query: Query, top_k: int, weights: Mapping[str, float] | None, expand: bool
    ) -> Answer:
        started = time.perf_counter()
        if weights and not any(weights.get(modality) for modality in query.vectors):
            counted = ", ".join(in_order(modality for modality, weight in weights.items() if weight))
            raise QueryError(f"query {query.text}: it has no {counted}, and nothing else counts with these weights")
        row = query_row(current.members, query.vectors, weights)
        with self._registries.reader() as registry:
            exact = ExactScores(registry, current.members)
            hits = self._hits(current, exact, row, top_k, self._ef_of(current, weights), expand)[0]
            hits = _with_scores(current, exact, query, hits)
        return Answer(
            query=query.text,
            root=current.library.roots.only,
            file=query.file,
            index=current.folder.name,
            version=current.manifest.version,
            ef_search=self._ef_of(current),
            hits=tuple(hits),
            decode_ms=query.decode_ms,
            embed_ms=query.embed_ms,
            search_ms=(time.perf_counter() - started) * 1e3,
        )


def _with_scores(current: OpenIndex, exact: ExactScores, query: Query, hits: list[Hit]) -> list[Hit]:
    """Add the scores that the hits do not have yet, of every modality of the query and of the index."""
    modalities = {*(member.modality for member in current.members), *query.vectors}
    missing = in_order(modality for modality in modalities if hits and modality not in hits[0].scores)
    if not missing:
        return hits
    ids = [hit.id for hit in hits]
    scores = {modality: _score(current, exact, query, modality, ids) for modality in missing}
    return [
        hit._replace(scores={**hit.scores, **{modality: scores[modality][hit.id] for modality in missing}})
        for hit in hits
    ]


def _score(
    current: OpenIndex, exact: ExactScores, query: Query, modality: str, ids: Sequence[int]
) -> dict[int, float | None]:
    """Return the cosine of each image to the query, from stored vectors; None where either has no vector."""
    scores: dict[int, float | None] = dict.fromkeys(ids)
    if (vector := query.vectors.get(modality)) is None:
        return scores
    stored = exact.vectors(modality, current.queries.fingerprints[modality], ids)
    return scores | {image_id: min(1.0, max(-1.0, float(vector @ other))) for image_id, other in stored.items()}


def _clipped(scores: list[float]) -> list[float]:
    """Keep rounding from making more of a cosine than 1; for a few hits numpy would take longer."""
    return [max(-1.0, min(1.0, score)) for score in scores]
