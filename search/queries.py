"""What is asked → vectors: pictures, photos of the library, words, and mixtures of them."""

import hashlib
import json
import logging
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from imgrec.embedders.base import Embedder, Pixels, TextEmbedder, are_vectors
from imgrec.embedders.catalogue import WITHOUT_CHOICE, create_embedder, create_embedders
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.faults import Refused
from imgrec.embedders.work.forward import embed_picture, embed_text
from imgrec.search.errors import IndexNotFoundError, QueryError
from imgrec.search.indexes.layout import Manifest, list_indexes, published_indexes
from imgrec.search.indexes.vectors import Vectors
from imgrec.search.pictures import Picture, file_of, name_of, read_picture
from imgrec.search.recipes import Recipe
from imgrec.search.terms import Term, describe_terms, mix
from imgrec.storage.errors import ImageError
from imgrec.storage.library import Library
from imgrec.storage.photos.decoding_alone import decode_safely
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.registry_pool import RegistryPool

_ID = re.compile(r"id:(\d+)")
_LARGEST_ID = 2**63 - 1  # SQLite's

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Query:
    """One query's vectors, (dim,) each, by modality, its file where it is one, and the milliseconds that they took.

    `image_ids` and, where it was asked for, `content_hashes` say which photos of the library it is itself.
    """

    text: str
    vectors: Mapping[str, Vectors]
    file: str | None = None
    decode_ms: float = 0.0
    embed_ms: float = 0.0
    image_ids: tuple[int, ...] = ()
    content_hashes: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Limits:
    """What a query picture may be: larger ones are not decoded, nor those that take longer."""

    max_megapixels: float = 256
    decode_timeout_s: float = 60


def is_id(query: Picture) -> bool:
    """Whether it names an image of the library, as `id:N`."""
    return isinstance(query, str) and _ID.fullmatch(query) is not None


class QueryEmbedder:
    """Makes the vectors of queries, as one version of an index wants them, in any number of threads.

    `fingerprints` are those of the version's modalities and of all others that the library has.

    Raises:
        EmbedderParameterError: the index was made by another version of an embedder than this program has.
    """

    def __init__(
        self,
        library: Library,
        registries: RegistryPool,
        index: str,
        manifest: Manifest,
        limits: Limits,
        machine: Machine,
    ) -> None:
        self._library = library
        self._registries = registries
        self._index = index
        self._members = manifest.members
        self._decode_min_side = manifest.vector_settings["decode_min_side"]
        self._icc_profiles = profiles_of(manifest.vector_settings)
        self.limits = limits
        self.machine = machine
        members = [member.modality for member in manifest.members]
        own = {**WITHOUT_CHOICE, **manifest.vector_settings}
        # A modality that the library got since has settings that this version does not know yet.
        others = {**library.vector_settings, **manifest.vector_settings, "icc_profiles": self._icc_profiles}
        self._settings = {
            name: own if name in members else others for name in dict.fromkeys([*library.modalities, *members])
        }
        self._embedders: dict[str, Embedder] = {
            name: create_embedder(name, settings, library.models_dir) for name, settings in self._settings.items()
        }
        self.fingerprints = {name: embedder.spec.fingerprint for name, embedder in self._embedders.items()}
        for member in manifest.members:
            if self.fingerprints[member.modality] != member.fingerprint:
                raise EmbedderParameterError(
                    f"index {index} was made by another version of {member.modality} than this program has: "
                    "run `imgrec ingest`"
                )

    def embed(self, query: Picture, all_scores: bool = False, identify: bool = False) -> Query:
        """Take the vectors of `id:N` from the registry; decode and embed any other picture.

        With `all_scores` a picture is embedded in every modality of the library, not only in the index's.
        With `identify`, its content hash is noted.

        Raises:
            QueryError: it is neither a readable image nor a known id, or has nothing to say in this index.
        """
        if isinstance(query, str) and (matched := _ID.fullmatch(query)):
            image_id = min(int(matched[1]), _LARGEST_ID)
            return Query(query, self._stored(query, image_id), self._file_of(image_id), image_ids=(image_id,))
        return self._embed_picture(query, all_scores, identify)

    def embed_terms(self, terms: Sequence[Term], identify: bool = False) -> Query:
        """Mix words and pictures: one weighted sum a modality.

        Raises:
            QueryError: a picture is neither readable nor a known id, the model makes no vector of words, or the terms
                cancel each other out.
            IndexNotFoundError: there are words, and this index does not read text.
        """
        prepared = [
            self._embed_text(term.value) if term.is_text else self.embed(term.value, identify=identify)
            for term in terms
        ]
        vectors = [query.vectors for query in prepared]
        mixed = {member.modality: mix(terms, vectors, member.modality) for member in self._members}
        return Query(
            describe_terms(terms),
            {modality: vector for modality, vector in mixed.items() if vector is not None},
            None,
            sum(query.decode_ms for query in prepared),
            sum(query.embed_ms for query in prepared),
            tuple(image_id for query in prepared for image_id in query.image_ids),
            tuple(content for query in prepared for content in query.content_hashes),
        )

    def _file_of(self, image_id: int) -> str | None:
        with self._registries.reader() as registry:
            (path,) = registry.paths([image_id])
        return None if path is None else self._library.roots.find(path[1])

    def describe(
        self,
        name: str,
        file: str | None,
        found: Mapping[str, Vectors | Refused],
        times_ms: tuple[float, float],
        content_hash: bytes | None,
    ) -> Query:
        """Make a query of a picture's rows, (dim,) each, by modality, or why it has none there.

        Raises:
            QueryError: it has nothing to say in this index.
        """
        refused = {modality: row.reason for modality, row in found.items() if isinstance(row, Refused)}
        rows = {modality: row for modality, row in found.items() if not isinstance(row, Refused)}
        vectors = {modality: row for modality, row in rows.items() if are_vectors(row[np.newaxis])[0]}
        if not any(member.modality in vectors for member in self._members):
            reasons = [refused[member.modality] for member in self._members if member.modality in refused]
            nothing = f"{self._index} finds nothing in this picture to search for"
            raise QueryError(f"query {printable(name)}: {'; '.join(reasons) or nothing}")
        for reason in refused.values():
            logger.warning("query %s: %s, so it is searched without", printable(name), reason)
        contents = () if content_hash is None else (content_hash,)
        return Query(name, vectors, file, *times_ms, content_hashes=contents)

    def embedders(self, all_scores: bool) -> dict[str, Embedder]:
        """Those of the index, or of all modalities of the library."""
        names = self._embedders if all_scores else [member.modality for member in self._members]
        return {name: self._embedders[name] for name in names}

    def recipe(self, all_scores: bool) -> Recipe:
        """What a worker process needs to know to embed pictures as this does."""
        settings = {name: self._settings[name] for name in self.embedders(all_scores)}
        sides = self._decode_min_side, self._icc_profiles
        limits = self.limits.max_megapixels, self.limits.decode_timeout_s
        return Recipe(json.dumps(settings), str(self._library.models_dir), *sides, *limits)

    def _embed_picture(self, query: Picture, all_scores: bool, identify: bool) -> Query:
        started, name = time.perf_counter(), name_of(query)
        data = read_picture(query)
        try:
            pixels = data if isinstance(data, np.ndarray) else self._decode(data)
        except ImageError as error:
            raise QueryError(f"query {printable(name)}: {error}") from error
        decoded = time.perf_counter()
        rows = {
            modality: embed_picture(embedder, pixels, self.machine)
            for modality, embedder in self.embedders(all_scores).items()
        }
        found = {modality: row if isinstance(row, Refused) else row[0] for modality, row in rows.items()}
        times_ms = (decoded - started) * 1e3, (time.perf_counter() - decoded) * 1e3
        content_hash = hashlib.sha256(data).digest() if identify and isinstance(data, bytes) else None
        return self.describe(name, file_of(query), found, times_ms, content_hash)

    def _decode(self, data: bytes) -> Pixels:
        limits = self.limits
        return decode_safely(
            data, self._decode_min_side, limits.max_megapixels, limits.decode_timeout_s, self._icc_profiles
        )

    def _embed_text(self, text: str) -> Query:
        started = time.perf_counter()
        vectors = {}
        for member in self._members:
            if not isinstance(embedder := self._embedders[member.modality], TextEmbedder):
                raise IndexNotFoundError(
                    f"index {self._index} does not read text ({member.modality} does not): "
                    f"search index {text_index(self._library)}"
                )
            row = embed_text(embedder, text, self.machine)
            if not are_vectors(row)[0]:
                raise QueryError(f'query "{text}": {member.modality} makes numbers of it that are not finite')
            vectors[member.modality] = row[0]
        return Query(text, vectors, None, 0.0, (time.perf_counter() - started) * 1e3)

    def _stored(self, query: str, image_id: int) -> dict[str, Vectors]:
        vectors = {}
        with self._registries.reader() as registry:
            for modality, fingerprint in self.fingerprints.items():
                stored = registry.vector(modality, fingerprint, image_id)
                if stored is not None:
                    vectors[modality] = stored
            if any(member.modality in vectors for member in self._members):
                return vectors
            raise self._no_vector(registry, query, image_id)

    def _no_vector(self, registry: Registry, query: str, image_id: int) -> QueryError:
        if not registry.images([image_id]):
            return QueryError(f"query {query}: the library has no image of this id (`imgrec sql` lists them)")
        needed = " or ".join(member.modality for member in self._members)
        found = [registry.vector_failure(self.fingerprints[m.modality], image_id) for m in self._members]
        reasons = dict.fromkeys(f"{failure[1]} ({failure[0]})" for failure in found if failure)
        why = f": {'; '.join(reasons)}" if reasons else "; see `imgrec failures`"
        return QueryError(f"query {query}: this image has no {needed} vector{why}")


def explain_no_index(library: Library, registry: Registry, index: str) -> str:
    """Say why an index that was asked for is not there, and what there is instead."""
    if names := list_indexes(library.indexes_dir):
        return f"no index {index!r} in {library.root}: there are {', '.join(names)}"
    if any(registry.count_vectors(modality, known) for known, modality in registry.fingerprints().items()):
        return f"no index in {library.root}: `imgrec ingest` builds it"
    return f"nothing to search in {library.root}: no image has a vector, see `imgrec status`"


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
        f"{library.root} has no index that reads text: `imgrec ingest --modality openclip --library "
        f"{shlex.quote(str(library.root))}` makes one"
    )
