"""A library opened for reading: searched, and read as tables."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pyarrow as pa

from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.errors import UnknownEmbedderError
from imgrec.embedders.machine import Machine
from imgrec.search.answers import Answer
from imgrec.search.filters import FilterLike
from imgrec.search.indexes.switching import serving_fingerprints
from imgrec.search.pictures import Picture
from imgrec.search.searcher import Searcher
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.tables import image_table, read_vectors


class OpenLibrary:
    """What `imgrec.open` gives. Any number of threads may share one; close it in the end, or use it in a `with` block.

    Raises:
        LibraryNotFoundError: there is no library.
    """

    def __init__(self, root: Path, machine: Machine = Machine()) -> None:
        self.library: Library = open_library(root)
        self._machine = machine
        self._searchers: dict[str | None, Searcher] = {}
        self._opening = threading.Lock()

    def __enter__(self) -> "OpenLibrary":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the indexes and the registry."""
        with self._opening:
            while self._searchers:
                self._searchers.popitem()[1].close()

    def search(
        self,
        queries: Picture | Sequence[Picture],
        index: str | None = None,
        top_k: int = 10,
        all_scores: bool = False,
        where: FilterLike | None = None,
        not_itself: bool = False,
        collapse_copies: bool = False,
    ) -> list[Answer]:
        """Find the photos most like each query, in the library's default index or in another.

        A query is the path of a picture, `id:N`, bytes, a binary file or RGB pixels ((H, W, 3) uint8); one alone is
        answered in a list of one. Each answer has `hits`, best first: photos that `where` allows, a condition in SQL
        (`width > 2000`) or a `Filter`. With `not_itself` the query's own photo is no hit; with `collapse_copies` photos
        of equal content are one.

        Raises:
            QueryError: a query is neither a readable picture nor a known id.
            FilterError: `where` is no condition on images.
            IndexNotFoundError: there is no such index.
        """
        several = queries if isinstance(queries, list | tuple) else [cast(Picture, queries)]
        return self.searcher(index).search(several, top_k, all_scores, where, not_itself, collapse_copies)

    def searcher(self, index: str | None = None) -> Searcher:
        """The open Searcher of an index, or of the library's default."""
        with self._opening:
            if index not in self._searchers:
                self._searchers[index] = Searcher(self.library.root, index, machine=self._machine)
            return self._searchers[index]

    def images(self) -> pa.Table:
        """The photos, as an Arrow table by id.

        Columns: id, path (below the folder of photos), size, modified, width, height, format, status (`ok`, `missing`,
        or why the photo cannot be used), reason, content_hash (hex), taken (by the camera's clock), taken_offset (from
        UTC, as `+02:00`), camera.
        """
        with Registry.open_for_reading(self.library.registry_path) as registry:
            return image_table(registry)

    def vectors(self, modality: str) -> pa.Table:
        """The vectors that answer now in a modality, as an Arrow table by id: `image_id`, and `vector`, dim float32.

        `table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)` is a matrix, uncopied. All of it
        is in memory: 1,280 numbers of a million photos take 5 GB.

        Raises:
            UnknownEmbedderError: the library has no such modality.
        """
        library = open_library(self.library.root)  # a modality may have come since
        if modality not in library.modalities:
            there = ", ".join(library.modalities)
            raise UnknownEmbedderError(f"{library.root} has no modality {modality!r}: there are {there}")
        fingerprint = serving_fingerprints(library, [modality]).get(modality)
        if fingerprint is None:  # it has no index of its own yet
            embedders = create_embedders([modality], library.vector_settings, library.models_dir)
            fingerprint = embedders[modality].spec.fingerprint
        with Registry.open_for_reading(library.registry_path) as registry:
            return read_vectors(registry, modality, fingerprint)
