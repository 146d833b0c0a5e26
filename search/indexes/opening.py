"""Open the version of an index that is to answer."""

import logging
from typing import TypeAlias

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.combined import CombinedReader
from imgrec.search.indexes.layout import IndexFolder, Manifest
from imgrec.search.indexes.reader import IndexReader

Reader: TypeAlias = IndexReader | CombinedReader

logger = logging.getLogger(__name__)


def open_version(folder: IndexFolder, version: str | Manifest | None = None) -> Reader:
    """Open a version, by its name or by a manifest that need not be written yet, or the published one.

    Raises:
        IndexNotFoundError: nothing is published under this name.
        IndexDamagedError: its files do not fit together.
    """
    manifest = version if isinstance(version, Manifest) else folder.read_manifest(version)
    if len(manifest.members) > 1 and manifest.format_version > 1:
        return CombinedReader(folder, manifest)
    return IndexReader(folder, manifest)


def open_reader(folder: IndexFolder) -> Reader:
    """Open the published version; where that is damaged, the newest one that is whole, with a warning.

    Raises:
        IndexNotFoundError: nothing is published under this name.
        IndexDamagedError: no version is whole.
    """
    damage = None
    for version in folder.versions():
        try:
            reader = open_version(folder, version)
        except IndexDamagedError as error:
            damage = damage or error
            continue
        if damage or version != folder.current_version():
            why = damage or f"{folder.pointer} is gone: the next `imgrec ingest` writes it"
            logger.warning("%s; the version of %s serves until then", why, reader.manifest.created)
        return reader
    if damage:
        raise damage
    return open_version(folder)  # says that there is none
