"""`imgrec index drop`: take away indexes that nobody wants any more, which every ingest would keep in step."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from imgrec.search.indexes.layout import IndexFolder, find_index
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.index_rows import forget_index
from imgrec.storage.registry.registry import Registry


def drop_indexes(root: Path, names: Sequence[str]) -> int:
    """Remove indexes of the library at `root`, whole or damaged, and return the bytes that they took.

    Vectors stay, and a search that has one of them open goes on (on a network disk until it reads more of it).

    Raises:
        IndexNotFoundError: one of them is not there; nothing was removed.
        LibraryLockedError: somebody writes the library.
    """
    library = open_library(root)
    with writer_lock(root), Registry.open_for_writing(library.registry_path) as registry:
        folders = {folder.key: folder for folder in (find_index(library.indexes_dir, name) for name in names)}
        return sum(_drop(registry, folder) for folder in folders.values())


def _drop(registry: Registry, folder: IndexFolder) -> int:
    size = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    folder.pointer.unlink(missing_ok=True)
    shutil.rmtree(folder.root)
    forget_index(registry, folder.key)
    return size
