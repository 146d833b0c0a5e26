"""A library opened for reading: searched, and read as tables."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Unpack, cast

import pyarrow as pa

from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.errors import UnknownEmbedderError
from imgrec.embedders.machine import Machine
from imgrec.search.answers import Answer
from imgrec.search.asking import Asking
from imgrec.search.duplicates.finding import Asked, Duplicates
from imgrec.search.duplicates.groups import Group
from imgrec.search.duplicates.keeping import DEFAULT_RULES, parse_rules
from imgrec.search.errors import MapNotFoundError
from imgrec.search.indexes.layout import list_indexes
from imgrec.search.indexes.switching import serving_fingerprints
from imgrec.search.map.files import MapFolder
from imgrec.search.map.making import Map
from imgrec.search.map.stored import read_map
from imgrec.search.names import by_preference
from imgrec.search.pictured import Thumbnails
from imgrec.search.pictures import Picture
from imgrec.search.queries import Limits
from imgrec.search.searcher import Searcher
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.registry_pool import RegistryPool
from imgrec.storage.tables import image_table, read_vectors


class OpenLibrary:
    """What `imgrec.open` gives. Any number of threads may share one; close it in the end, or use it in a `with` block.

    Raises:
        LibraryNotFoundError: there is no library.
    """

    def __init__(
        self, root: Path, machine: Machine = Machine(), limits: Limits = Limits(), thumbnail_cache_mb: float = 1_000
    ) -> None:
        self.library: Library = open_library(root)
        self._machine = machine
        self._registries = RegistryPool(self.library.registry_path)
        self._thumbnails = Thumbnails(self.library, self._registries, limits, thumbnail_cache_mb)
        self._searchers: dict[str | None, Searcher] = {}
        self._opening = threading.Lock()

    def __enter__(self) -> "OpenLibrary":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the indexes and the registry."""
        self._registries.close()
        with self._opening:
            while self._searchers:
                self._searchers.popitem()[1].close()

    def search(
        self,
        queries: Picture | Sequence[Picture],
        index: str | None = None,
        top_k: int = 10,
        all_scores: bool = False,
        **asking: Unpack[Asking],
    ) -> list[Answer]:
        """Find the photos most like each query, in the library's default index or in another.

        A query is the path of a picture, `id:N`, bytes, a binary file or RGB pixels ((H, W, 3) uint8); one alone is
        answered in a list of one. Each answer has `hits`, best first. What else may be asked for (`where`,
        `not_itself`, `collapse_copies`, `weights`, `expand`) is in `search.asking.Asking`.

        Raises:
            QueryError: a query is neither a readable picture nor a known id.
            IndexNotFoundError: there is no such index.
            FilterError: `where` is no condition on images.
        """
        several = queries if isinstance(queries, list | tuple) else [cast(Picture, queries)]
        return self.searcher(index).search(several, top_k, all_scores, **asking)

    def searcher(self, index: str | None = None) -> Searcher:
        """The open Searcher of an index, or of the library's default."""
        with self._opening:
            if index not in self._searchers:
                self._searchers[index] = Searcher(self.library.root, index, machine=self._machine)
            return self._searchers[index]

    def thumbnails(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Return the thumbnails of these photos, WebP of 64 pixels by id; those that have none are left out."""
        return self._thumbnails.get_many(ids)

    def thumbnail(self, image_id: int, side: int = 256) -> bytes:
        """Return a thumbnail of one photo, WebP, of `side` pixels or the next larger of 64, 128, 256, 512 and 1,024.

        Raises:
            QueryError: there is no such photo, or it cannot be read any more.
        """
        return self._thumbnails.get(image_id, side)

    def map(self, index: str | None = None, limit: int | None = None) -> Map:
        """Return the map that `imgrec explore` made of an index, or of the one that is searched by default.

        Raises:
            MapNotFoundError: it made none.
            MapDamagedError: its files are damaged.
        """
        names = [index] if index else by_preference(list_indexes(self.library.indexes_dir))
        if not names:
            raise MapNotFoundError(f"no index in {self.library.root}, and so no map: `imgrec ingest`")
        return read_map(MapFolder(self.library.maps_dir, names[0], limit))[0]

    def duplicates(
        self,
        index: str | None = None,
        threshold: float | None = None,
        exact: bool = False,
        keep: Sequence[str] = DEFAULT_RULES,
        prefer: Sequence[str] = (),
    ) -> list[Group]:
        """Find the groups of photos that are copies of one picture, those that are settled left out.

        Args:
            index: index that says what is near; default: the library's.
            threshold: photos with this cosine are near copies; default: the index's.
            exact: only files of the same bytes, for which no index is needed.
            keep: rules that say which photo of a group to keep: pixels, bytes, format, date, folder; `-date` is the
                other way round.
            prefer: folders whose photos the rule `folder` prefers.

        Raises:
            IndexNotFoundError: there is no such index.
            QueryError: no threshold is known for a modality of the index.
            KeepRuleError: there is no such rule.
        """
        asked = Asked(index, threshold, exact, parse_rules(keep, prefer))
        library = open_library(self.library.root)
        with Registry.open_for_reading(library.registry_path) as registry:
            return list(Duplicates(library, registry, asked, lambda *_: None).groups())

    def images(self) -> pa.Table:
        """The photos, as an Arrow table by id.

        Columns: id, path (below the folder of photos; of several, with the root's name), size, modified, width, height,
        format, status (`ok`, `missing`, or why the photo cannot be used), reason, content_hash (hex).
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
