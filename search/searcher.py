"""Queries → hits: the library call behind the command, the task and the flow."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from imgrec.embedders.machine import Machine
from imgrec.search.answers import Answer, Hit
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.fusion import combine
from imgrec.search.indexes.layout import IndexFolder, Member
from imgrec.search.indexes.reader import open_reader
from imgrec.search.indexes.segment import Vectors
from imgrec.search.queries import Limits, Query, QueryEmbedder, default_index, explain_no_index, text_index
from imgrec.search.terms import Term
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry

logger = logging.getLogger(__name__)


class Searcher:
    """Answers queries from a library's index. Keeps it open; a version published meanwhile is taken up by itself.

    Where no index is named it is the one of most modalities, or `for_text` the one that reads text.

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
        self.library = open_library(Path(library))
        self._ef_search = ef_search
        self._limits = Limits(max_megapixels, decode_timeout_s)
        self._machine = machine
        self._stack = ExitStack()
        self._registry = self._stack.enter_context(Registry.open_for_reading(self.library.registry_path))
        default = text_index(self.library) if for_text and not index else default_index(self.library.indexes_dir)
        self._folder = IndexFolder(self.library.indexes_dir, index or default)
        try:
            self._open_reader()
        except IndexNotFoundError as error:
            raise IndexNotFoundError(explain_no_index(self.library, self._registry, self.index)) from error

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def index(self) -> str:
        return self._folder.name

    @property
    def photos(self) -> int:
        """How many photos the index has, and so an answer hits at most."""
        return self._reader.manifest.live

    @property
    def ef_search(self) -> int:
        return self._ef_search or self._reader.manifest.parameters["ef_search"]

    def search(
        self, queries: Sequence[str | os.PathLike[str]], top_k: int = 10, all_scores: bool = False
    ) -> list[Answer]:
        """Find the `top_k` images most like each query: the path of an image file, or `id:N` of the library.

        With `all_scores`, hits of image files carry the scores of every modality that the library has, not only of
        the index's; those of `id:N` always do.

        Raises:
            QueryError: a query is neither a readable image nor a known id.
        """
        self._refresh()
        prepared = [self._queries.embed(os.fspath(query), all_scores) for query in queries]
        return [self._answer(query, top_k) for query in prepared]

    def search_terms(self, terms: Sequence[Term], top_k: int = 10) -> Answer:
        """Find the `top_k` images most like one mixture of words and pictures.

        Scores are cosines to the weighted sum of the terms' unit vectors, one sum a modality.

        Raises:
            QueryError: a picture is neither readable nor a known id, or the terms cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
        """
        self._refresh()
        return self._answer(self._queries.embed_terms(terms), top_k)

    def query_file(self, query: str) -> Path:
        """The file of a query that was answered: the path itself, or the photo of `id:N`."""
        return self._queries.file_of(query)

    def search_vectors(self, vectors: Vectors, top_k: int = 10) -> list[list[Hit]]:
        """Find the `top_k` images nearest to each row of `vectors`: (N, dim of the index) float32, L2 norm 1.

        Hits of a combined index carry no scores of its modalities here.
        """
        self._refresh()
        return self._hits(vectors, top_k)

    def _hits(self, vectors: Vectors, top_k: int) -> list[list[Hit]]:
        scores, ids = self._reader.search(vectors, top_k, self.ef_search)
        id_rows = ids.tolist()
        paths = iter(self._registry.paths([image_id for row in id_rows for image_id in row]))
        only = self._members[0].modality if len(self._members) == 1 else None
        return [
            [
                Hit(rank, image_id, path[0], score, {only: score} if only else {}, path[1])
                for rank, (image_id, score, path) in enumerate(zip(id_row, score_row, paths, strict=False), 1)
                if path is not None
            ]
            for id_row, score_row in zip(id_rows, map(_clipped, scores.tolist()), strict=True)
        ]

    def _answer(self, query: Query, top_k: int) -> Answer:
        started = time.perf_counter()
        hits = self._with_scores(query, self._hits(self._combine(query), top_k)[0])
        return Answer(
            query=query.text,
            index=self.index,
            version=self._reader.manifest.version,
            ef_search=self.ef_search,
            hits=tuple(hits),
            decode_ms=query.decode_ms,
            embed_ms=query.embed_ms,
            search_ms=(time.perf_counter() - started) * 1e3,
        )

    def _combine(self, query: Query) -> Vectors:
        """Return the query's (1, dim) row for this index; a modality that it lacks adds nothing."""
        found = query.vectors
        if len(self._members) == 1:
            return found[self._members[0].modality][np.newaxis]
        parts = {m.modality: found.get(m.modality, np.zeros(m.dim, np.float32))[np.newaxis] for m in self._members}
        return combine(self._members, parts)

    def _with_scores(self, query: Query, hits: list[Hit]) -> list[Hit]:
        """Add the scores that the hits do not have yet, of every modality of the query and of the index."""
        modalities = dict.fromkeys([*(member.modality for member in self._members), *query.vectors])
        missing = [modality for modality in modalities if hits and modality not in hits[0].scores]
        if not missing:
            return hits
        ids = [hit.id for hit in hits]
        scores = {modality: self._score(query, modality, ids) for modality in missing}
        return [
            hit._replace(scores={**hit.scores, **{modality: scores[modality][hit.id] for modality in missing}})
            for hit in hits
        ]

    def _score(self, query: Query, modality: str, ids: Sequence[int]) -> dict[int, float | None]:
        """Return the cosine of each image to the query, from stored vectors; None where either has no vector."""
        scores: dict[int, float | None] = dict.fromkeys(ids)
        if (vector := query.vectors.get(modality)) is None:
            return scores
        stored = self._registry.vectors(modality, self._queries.fingerprints[modality], ids)
        return scores | {image_id: min(1.0, max(-1.0, float(vector @ other))) for image_id, other in stored.items()}

    def _refresh(self) -> None:
        """Take up a newer version, if one was published; if it cannot be opened, go on with the one that is open."""
        if self._folder.stamp() not in (None, self._stamp):
            try:
                self._open_reader()
            except IndexDamagedError as error:
                logger.warning("%s; the version before it goes on serving", error)

    def _open_reader(self) -> None:
        self._stamp = self._folder.stamp()
        try:
            self._reader = open_reader(self._folder)
        except IndexDamagedError:  # a version may be replaced twice between reading its name and opening it
            self._reader = open_reader(self._folder)
        manifest = self._reader.manifest
        self._members: tuple[Member, ...] = manifest.members
        self._queries = QueryEmbedder(self.library, self._registry, self.index, manifest, self._limits, self._machine)


def _clipped(scores: list[float]) -> list[float]:
    """Keep rounding from making more of a cosine than 1; for a few hits numpy would take longer."""
    return [max(-1.0, min(1.0, score)) for score in scores]
