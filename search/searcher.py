"""Queries → hits: the library call behind the command, the task and the flow."""

import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from embedders.base import Embedder, LearnedEmbedder, TextEmbedder
from embedders.catalogue import create_embedders
from embedders.errors import EmbedderParameterError
from embedders.machine import Machine
from search.errors import IndexDamagedError, IndexNotFoundError, QueryError
from search.fusion import COMBINED, combine
from search.layout import IndexFolder, Member, list_indexes, published_indexes
from search.reader import open_reader
from search.segment import Vectors
from search.terms import Term, describe_terms, mix
from storage.decoding_alone import decode_safely
from storage.errors import ImageError
from storage.images import printable
from storage.library import Library, open_library
from storage.probe import read_regular
from storage.registry import Registry

logger = logging.getLogger(__name__)

_ID = re.compile(r"id:(\d+)")
_LARGEST_ID = 2**63 - 1  # SQLite's


class Hit(NamedTuple):
    """One image found. Scores are cosines in [-1, 1]; `scores` has one a modality, None where there is no vector."""

    rank: int
    id: int
    path: str
    score: float
    scores: Mapping[str, float | None]
    file: str


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first, and the milliseconds that each step took."""

    query: str
    index: str
    version: str
    ef_search: int
    hits: tuple[Hit, ...]
    decode_ms: float
    embed_ms: float
    search_ms: float


@dataclass(frozen=True)
class _Query:
    text: str
    vectors: Mapping[str, Vectors]  # modality → (dim,)
    decode_ms: float = 0.0
    embed_ms: float = 0.0


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
        self._limits = (max_megapixels, decode_timeout_s)
        self._machine = machine
        self._stack = ExitStack()
        self._registry = self._stack.enter_context(Registry.open_for_reading(self.library.registry_path))
        default = text_index(self.library) if for_text and not index else default_index(self.library.indexes_dir)
        self._folder = IndexFolder(self.library.indexes_dir, index or default)
        self._open_reader()

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def index(self) -> str:
        return self._folder.name

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
        return [self._answer(query, top_k) for query in self._prepare(queries, all_scores)]

    def search_terms(self, terms: Sequence[Term], top_k: int = 10) -> Answer:
        """Find the `top_k` images most like one mixture of words and pictures.

        Scores are cosines to the weighted sum of the terms' unit vectors, one sum a modality.

        Raises:
            QueryError: a picture is neither readable nor a known id, or the terms cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
        """
        self._refresh()
        return self._answer(self._mix(terms), top_k)

    def query_file(self, query: str) -> Path:
        """The file of a query that was answered: the path itself, or the photo of `id:N`."""
        if matched := _ID.fullmatch(query):
            row = self._registry.images([int(matched[1])])[int(matched[1])]
            return Path(self.library.images_root) / row.file_path
        return _path(query)

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

    def _answer(self, query: _Query, top_k: int) -> Answer:
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

    def _combine(self, query: _Query) -> Vectors:
        """Return the query's (1, dim) row for this index; a modality that it lacks adds nothing."""
        found = query.vectors
        if len(self._members) == 1:
            return found[self._members[0].modality][np.newaxis]
        parts = {m.modality: found.get(m.modality, np.zeros(m.dim, np.float32))[np.newaxis] for m in self._members}
        return combine(self._members, parts)

    def _with_scores(self, query: _Query, hits: list[Hit]) -> list[Hit]:
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

    def _score(self, query: _Query, modality: str, ids: Sequence[int]) -> dict[int, float | None]:
        """Return the cosine of each image to the query, from stored vectors; None where either has no vector."""
        scores: dict[int, float | None] = dict.fromkeys(ids)
        if (vector := query.vectors.get(modality)) is None:
            return scores
        stored = self._registry.vectors(modality, self._fingerprints[modality], ids)
        return scores | {image_id: min(1.0, max(-1.0, float(vector @ other))) for image_id, other in stored.items()}

    def _prepare(self, queries: Sequence[str | os.PathLike[str]], all_scores: bool) -> list[_Query]:
        self._refresh()
        return [self._prepare_one(os.fspath(query), all_scores) for query in queries]

    def _prepare_one(self, query: str, all_scores: bool) -> _Query:
        if matched := _ID.fullmatch(query):
            return _Query(query, self._stored(query, min(int(matched[1]), _LARGEST_ID)))
        started = time.perf_counter()
        try:
            data, _ = read_regular(_path(query))
            pixels = decode_safely(data, self._reader.manifest.vector_settings["decode_min_side"], *self._limits)
        except OSError as error:
            raise QueryError(
                f"query {printable(query)} cannot be read ({error.strerror or error}): "
                "give the path of an image, or id:N for an image of the library"
            ) from error
        except ImageError as error:
            raise QueryError(f"query {printable(query)}: {error}") from error
        decoded = time.perf_counter()
        wanted = self._embedders.values() if all_scores else [self._embedders[m.modality] for m in self._members]
        for embedder in wanted:
            if isinstance(embedder, LearnedEmbedder):
                embedder.load(self._machine)
        embeddings = {embedder.spec.name: embedder.embed([pixels])[0] for embedder in wanted}
        vectors = {modality: vector for modality, vector in embeddings.items() if np.isfinite(vector).all()}
        embedded = time.perf_counter()
        if not any(member.modality in vectors for member in self._members):
            raise QueryError(f"query {printable(query)}: {self.index} finds nothing in this picture to search for")
        return _Query(query, vectors, (decoded - started) * 1e3, (embedded - decoded) * 1e3)

    def _mix(self, terms: Sequence[Term]) -> _Query:
        prepared = [
            self._prepare_text(term.value) if term.is_text else self._prepare_one(term.value, False) for term in terms
        ]
        vectors = [query.vectors for query in prepared]
        mixed = {member.modality: mix(terms, vectors, member.modality) for member in self._members}
        return _Query(
            describe_terms(terms),
            {modality: vector for modality, vector in mixed.items() if vector is not None},
            sum(query.decode_ms for query in prepared),
            sum(query.embed_ms for query in prepared),
        )

    def _prepare_text(self, text: str) -> _Query:
        started = time.perf_counter()
        vectors = {}
        for member in self._members:
            if not isinstance(embedder := self._embedders[member.modality], TextEmbedder):
                raise IndexNotFoundError(
                    f"index {self.index} does not read text ({member.modality} does not): "
                    f"search index {text_index(self.library)}"
                )
            vectors[member.modality] = embedder.embed_texts([text], self._machine)[0]
        return _Query(text, vectors, 0.0, (time.perf_counter() - started) * 1e3)

    def _stored(self, query: str, image_id: int) -> dict[str, Vectors]:
        vectors = {}
        for modality, fingerprint in self._fingerprints.items():
            stored = self._registry.vector(modality, fingerprint, image_id)
            if stored is not None:
                vectors[modality] = stored
        if any(member.modality in vectors for member in self._members):
            return vectors
        if not self._registry.images([image_id]):
            raise QueryError(f"query {query}: the library has no image of this id (`imgrec sql` lists them)")
        needed = " or ".join(member.modality for member in self._members)
        raise QueryError(f"query {query}: this image has no {needed} vector; see `imgrec failures`")

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
        modalities = [*self.library.modalities, *(member.modality for member in manifest.members)]
        # A modality that the library got since has settings that this version does not know yet.
        settings = {**self.library.vector_settings, **manifest.vector_settings}
        self._embedders: dict[str, Embedder] = create_embedders(
            dict.fromkeys(modalities), settings, self.library.models_dir
        )
        self._fingerprints = {name: embedder.spec.fingerprint for name, embedder in self._embedders.items()}
        for member in manifest.members:
            if self._fingerprints[member.modality] != member.fingerprint:
                raise EmbedderParameterError(
                    f"index {self.index} was made by another version of {member.modality} than this program has: "
                    "run `imgrec ingest`"
                )


def _clipped(scores: list[float]) -> list[float]:
    """Keep rounding from making more of a cosine than 1; for a few hits numpy would take longer."""
    return [max(-1.0, min(1.0, score)) for score in scores]


def _path(query: str) -> Path:
    try:
        return Path(query).expanduser()
    except RuntimeError:  # ~name of nobody: then it is a file of that name
        return Path(query)


def default_index(indexes_dir: Path) -> str:
    """The index that is searched when none is named: the combination of most modalities, or else the only one."""
    names = list_indexes(indexes_dir)
    combined = [name for name in names if name.startswith(COMBINED)]
    return max(combined, key=len) if combined else names[0] if names else "color"


def text_index(library: Library) -> str:
    """The index that is searched for words when none is named: that of the first modality that reads text.

    Raises:
        IndexNotFoundError: the library has none.
    """
    published = published_indexes(library.indexes_dir)
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    for name, embedder in embedders.items():
        if name in published and isinstance(embedder, TextEmbedder):
            return name
    raise IndexNotFoundError(
        f"{library.root} has no index that reads text: `imgrec ingest --modality openclip --library {library.root}` "
        "makes one"
    )
