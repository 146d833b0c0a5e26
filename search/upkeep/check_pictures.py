"""Checks of thumbnails and maps, which can all be made anew. Each yields one kind of finding."""

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from imgrec.search.errors import MapDamagedError, MapNotFoundError
from imgrec.search.map.files import map_folders
from imgrec.search.upkeep.findings import CheckedLibrary, Finding
from imgrec.storage.errors import ThumbnailsDamagedError
from imgrec.storage.thumbnails.packs import Pack
from imgrec.storage.thumbnails.store import pack_paths


def check_thumbnails(checked: CheckedLibrary) -> Iterator[Finding]:
    """Every pack of thumbnails holds what its checksum says."""
    for path in pack_paths(checked.library.thumbnails_dir):
        try:
            Pack(path).verify()
        except ThumbnailsDamagedError as error:
            what = str(error).partition(": `imgrec doctor")[0]
            yield Finding("thumbnails.damaged", what, "removes it; `imgrec thumbnails` makes it anew", path.unlink)


def check_maps(checked: CheckedLibrary) -> Iterator[Finding]:
    """The version of each map that is published is whole."""
    for folder in map_folders(checked.library.maps_dir):
        try:
            folder.verify(folder.current_version())
        except (MapDamagedError, MapNotFoundError) as error:
            what = str(error).partition(": `imgrec explore")[0]
            yield Finding(
                "map.damaged", what, "removes that map; `imgrec explore` makes it", partial(_remove, folder.root)
            )


def _remove(root: Path) -> None:
    shutil.rmtree(root)
