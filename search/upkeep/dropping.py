"""`imgrec index drop`: take away indexes that nobody wants any more, which every ingest would keep in step."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from imgrec.search.errors import IndexNotFoundError
from imgrec.search.indexes.layout import IndexFolder
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.index_rows import forget_segments, mirrored_segments
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
        there = sorted(path.name for path in library.indexes_dir.glob("*/"))
        for name in names:
            if name not in there:
                raise IndexNotFoundError(f"no index {name!r} in {root}: there are {', '.join(there) or 'none'}")
        return sum(_drop(registry, IndexFolder(library.indexes_dir, name)) for name in dict.fromkeys(names))


def _drop(registry: Registry, folder: IndexFolder) -> int:
    size = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    folder.pointer.unlink(missing_ok=True)
    shutil.rmtree(folder.root)
    with registry.transaction():
        forget_segments(registry, folder.name, mirrored_segments(registry, folder.name))
    return size
