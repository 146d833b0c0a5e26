"""Which folders of photos a run takes: its library's, and what was asked to be added, moved, renamed or removed."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from imgrec.conf.errors import SettingsError
from imgrec.conf.settings import Settings
from imgrec.storage.errors import PhotoRootError
from imgrec.storage.library import Library
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.roots import Roots, find_nested, is_root_name, one_root


def new_roots(settings: Settings) -> Roots:
    """The roots of a new library.

    Raises:
        SettingsError: none is named.
        PhotoRootError: a folder is not there, or is inside another one.
    """
    given = settings.images_root
    if given is None:
        raise SettingsError("images_root is not set: name the folder of photos, as in `imgrec ingest ~/Pictures`")
    if isinstance(given, Path):
        return one_root(_existing(given))
    for name, folder in given.items():
        if folder is None:
            raise SettingsError(f"images_root = {name}: there is no library that has a folder of this name")
    return _checked({name: _existing(folder) for name, folder in given.items() if folder is not None})


def planned_roots(library: Library, settings: Settings, photos_moved: bool) -> Roots:
    """The roots of a library with what was asked for; only where `photos_moved`, a root may be in another folder.

    A folder of the library under a new name renames its root; a name without a folder removes one.

    Raises:
        PhotoRootError: a folder is not the library's, is not there, or is inside another one.
        SettingsError: a name is not known, or none is left.
    """
    given, known = settings.images_root, library.roots
    if given is None:
        return known
    if isinstance(given, Path):
        return _with_folder(library, given, photos_moved)
    names = {folder: name for name, folder in known.folders.items()}
    folders, renamed = dict(known.folders), dict(known.renamed)
    for name, folder in given.items():
        if folder is None:
            if name not in known.folders:
                raise SettingsError(f"{library.root} has no folder of photos named {name}: there are {known}")
            del folders[name]
        elif name in known.folders:
            if str(folder) == known.folders[name]:
                continue
            if not photos_moved:
                raise PhotoRootError(_refusal(library, name, folder))
            folders[name] = _existing(folder)
        elif (old := names.get(str(folder))) is not None and old not in given:
            folders = {name if key == old else key: value for key, value in folders.items()}
            renamed[old] = name
        else:
            folders[name] = _existing(folder)
    if not folders:
        raise SettingsError(f"{library.root} would have no folder of photos: keep one of {known}")
    if "" in folders and len(folders) > 1:
        raise PhotoRootError(_ask_for_a_name(library, given))
    return Roots(_checked(folders).folders, renamed)


def _with_folder(library: Library, folder: Path, photos_moved: bool) -> Roots:
    known = library.roots
    if str(folder) in known.folders.values():
        return known
    if len(known.folders) == 1 and photos_moved:
        return Roots(dict.fromkeys(known.folders, _existing(folder)), known.renamed)
    (name, *others) = known.folders
    if others or name:
        raise PhotoRootError(
            f"{library.root} is the library of {known}: give {printable(str(folder))} one of these names if the photos "
            "moved (and --photos-moved), or another name to add it, as in `imgrec ingest NAME=FOLDER`"
        )
    raise PhotoRootError(_refusal(library, name, folder))


def _refusal(library: Library, name: str, folder: Path) -> str:
    asked, known = printable(str(folder)), printable(library.roots.folders[name])
    moved = shlex.quote(f"{name}={asked}" if name else asked)
    if name:
        return (
            f"{name} is {known} in {library.root}: if its photos moved to {asked}, run "
            f"`imgrec ingest {moved} --photos-moved{_of(library)}`, or else choose another name"
        )
    return (
        f"{library.root} is the library of {known}: for {asked} name another --library, "
        f"or if its photos moved there, run `imgrec ingest {moved} --photos-moved{_of(library)}`; to have both in one "
        f"library, name them: `imgrec ingest {_suggest(library.roots.folders[name])} {_suggest(asked)}{_of(library)}`"
    )


def _ask_for_a_name(library: Library, given: Mapping[str, Path | None]) -> str:
    first = library.roots.folders[""]
    asked = " ".join([_suggest(first), *(shlex.quote(f"{name}={folder}") for name, folder in given.items() if folder)])
    return (
        f"{library.root} is the library of {printable(first)}, which has no name yet: of several folders each has one: "
        f"`imgrec ingest {asked}{_of(library)}`"
    )


def _of(library: Library) -> str:
    return f" --library {shlex.quote(str(library.root))}"


def _suggest(folder: str) -> str:
    """A folder with its own name, as far as that makes one."""
    name = re.sub(r"^[^\w]+|[^\w.-]", "", Path(folder).name).lower()
    return shlex.quote(f"{name if is_root_name(name) else 'photos'}={printable(folder)}")


def _existing(folder: Path) -> str:
    if not folder.is_dir():
        raise PhotoRootError(f"{printable(str(folder))} is no folder: name the folder of photos")
    return str(folder)


def _checked(folders: Mapping[str, str]) -> Roots:
    if (nested := find_nested(folders.values())) is not None:
        inner, outer = map(printable, nested)
        where = "given twice" if inner == outer else f"inside of {outer}"
        raise PhotoRootError(f"{inner} is {where}: its photos would be in the library twice; leave one of them out")
    return Roots(folders)
