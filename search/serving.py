"""Which version of which index answers, for any number of threads, while others are published."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from imgrec.embedders.machine import Machine
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError, SearcherClosedError
from imgrec.search.indexes.layout import IndexFolder, Manifest, Member, list_indexes
from imgrec.search.indexes.opening import Reader, open_reader
from imgrec.search.names import by_preference
from imgrec.search.queries import Limits, QueryEmbedder, explain_no_index, text_index
from imgrec.storage.errors import ImgrecError
from imgrec.storage.library import Library, open_library
from imgrec.storage.registry.registry_pool import RegistryPool

# How often it is looked for what one file does not tell: new modalities, another default index.
LOOK_EVERY_S = 1.0
# How long what could not be taken up is left alone; a version that is published meanwhile is tried at once.
TRY_AGAIN_AFTER_S = 10.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenIndex:
    """One version of an index, open, and all that belongs to it. It never changes: who has it finishes with it."""

    library: Library
    folder: IndexFolder
    stamp: tuple[int, int] | None
    reader: Reader
    queries: QueryEmbedder

    @property
    def manifest(self) -> Manifest:
        return self.reader.manifest

    @property
    def members(self) -> tuple[Member, ...]:
        return self.manifest.members


class Serving:
    """Keeps the version open that answers, and takes up what is published meanwhile.

    The new version is opened whole, with all that belongs to it, and then takes the place of the old one in one
    assignment; where that fails, the old one goes on, and is warned of. One thread does so while others go on with
    the old one.

    Raises:
        LibraryNotFoundError: there is no library.
        IndexNotFoundError: it has no index of this name, or none that reads text.
    """

    def __init__(
        self, root: Path, index: str | None, for_text: bool, limits: Limits, machine: Machine, registries: RegistryPool
    ) -> None:
        self._root = root
        self._index = index
        self._for_text = for_text
        self._limits = limits
        self._machine = machine
        self._registries = registries
        self._taking_up = threading.Lock()
        self._refused: tuple[int, int] | None = None
        self._told = ""
        self._look_at = time.monotonic() + LOOK_EVERY_S
        library = open_library(root)
        names = self._choose(library)
        try:
            self._open: OpenIndex | None = self._open_first(library, names)
        except IndexNotFoundError as error:
            with registries.reader() as registry:
                raise IndexNotFoundError(explain_no_index(library, registry, names[0])) from error

    @property
    def open(self) -> OpenIndex:
        """What is open, without a look whether there is something newer.

        Raises:
            SearcherClosedError: it was closed.
        """
        if (found := self._open) is None:
            raise SearcherClosedError("this Searcher is closed: open another one")
        return found

    def current(self) -> OpenIndex:
        """Return what answers now."""
        found = self.open
        is_new = found.folder.stamp() not in (None, found.stamp, self._refused)
        if (is_new or time.monotonic() >= self._look_at) and self._taking_up.acquire(blocking=False):
            try:
                self._take_up()
            finally:
                self._taking_up.release()
        return self.open

    def close(self) -> None:
        """Let go of what is open; threads that have it finish with it."""
        with self._taking_up:
            self._open = None

    def _take_up(self) -> None:
        found = self.open
        published = found.folder.stamp()
        self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            library = open_library(self._root)
            names = self._choose(library)
            folder = IndexFolder(library.indexes_dir, names[0])
            stamp = folder.stamp()
            if stamp is not None and (library, folder.name, stamp) != (found.library, found.folder.name, found.stamp):
                self._open = self._open_first(library, names)
        except (ImgrecError, OSError, RuntimeError, MemoryError) as error:
            self._refuse(published, error)
        else:
            self._refused = None

    def _refuse(self, published: tuple[int, int] | None, error: Exception) -> None:
        self._refused = published
        self._look_at = time.monotonic() + TRY_AGAIN_AFTER_S
        self._tell(f"{error}; the version before it goes on serving")

    def _tell(self, what: str) -> None:
        """Warn once, however often the same is found."""
        if what != self._told:
            self._told = what
            logger.warning("%s", what)

    def _choose(self, library: Library) -> list[str]:
        """The index to search, and what comes next where that is damaged."""
        if self._index:
            return [self._index]
        if self._for_text:
            return [text_index(library)]
        return by_preference(list_indexes(library.indexes_dir)) or ["color"]

    def _open_first(self, library: Library, names: Sequence[str]) -> OpenIndex:
        """Open the first of these indexes that is not damaged, with a warning where that is a later one.

        Raises:
            IndexNotFoundError, IndexDamagedError: the last one is not there, or damaged too.
        """
        for name, instead in pairwise(names):
            try:
                return self._open_index(library, name)
            except IndexDamagedError as error:
                self._look_at = time.monotonic() + TRY_AGAIN_AFTER_S
                self._tell(f"index {name} is damaged, and {instead} searched instead: {error}")
        return self._open_index(library, names[-1])

    def _open_index(self, library: Library, name: str) -> OpenIndex:
        folder = IndexFolder(library.indexes_dir, name)
        stamp = folder.stamp()
        try:
            reader = open_reader(folder)
        except IndexDamagedError:  # a version may be replaced twice between reading its name and opening it
            reader = open_reader(folder)
        queries = QueryEmbedder(library, self._registries, name, reader.manifest, self._limits, self._machine)
        return OpenIndex(library, folder, stamp, reader, queries)
