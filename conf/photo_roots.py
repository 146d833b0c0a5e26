"""How a user names folders of photos: one by its path, or any number as NAME=FOLDER."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgrec.storage.photos.roots import is_root_name

# No folder: the root of this name is to be removed.
RootFolders = Path | dict[str, Path | None]


def parse_roots(value: Any, expand: Callable[[Any], Path]) -> Any:
    """Parse a folder, `NAME=FOLDER`, several of these (a list, or one a line), or a mapping of names to folders.

    Raises:
        ValueError: it is none of these, a name is given twice, or is none.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {_checked(name): _expanded(expand, name, folder) for name, folder in value.items()}
    given = _lines(value) if isinstance(value, str) else value if isinstance(value, Sequence) else [value]
    if not given or not all(isinstance(item, str | Path) for item in given):
        raise ValueError("name a folder by its path, or several as NAME=FOLDER")
    named = [split for item in given if (split := _split(str(item)))]
    if not named and len(given) == 1:
        return expand(given[0])
    if len(named) < len(given):
        raise ValueError("give each folder a name, as in `nas=/mnt/nas/photos laptop=~/Pictures`")
    if len(dict(named)) < len(named):
        raise ValueError("a name stands for one folder, and one is given twice")
    return parse_roots(dict(named), expand)


def with_removed(given: Sequence[str], removed: Sequence[str]) -> Any:
    """What is given to `parse_roots` where names are given to be removed, too; None where there is nothing.

    Raises:
        ValueError: a folder has no name.
    """
    if not removed:
        return list(given) or None
    named = [split for item in given if (split := _split(item))]
    if len(named) < len(given):
        raise ValueError("where a folder is removed, others are given as NAME=FOLDER")
    return {**dict(named), **dict.fromkeys(removed)}


def _expanded(expand: Callable[[Any], Path], name: str, folder: Any) -> Path | None:
    """No text, as of a variable that is not set, is neither the working directory nor None."""
    if folder == "":
        raise ValueError(f"{name}= names no folder")
    return None if folder is None else expand(folder)


def _lines(value: str) -> list[str]:
    """A folder's own name may have line breaks."""
    lines = [line.strip() for line in value.splitlines() if line.strip()]
    return lines if all(map(_split, lines)) else [value]


def _split(text: str) -> tuple[str, str] | None:
    """The name and the folder of `NAME=FOLDER`; None where it is a folder by that path, or no name comes first.

    Raises:
        ValueError: it may be either.
    """
    name, equals, folder = text.partition("=")
    if not equals or not is_root_name(name):
        return None
    if not Path(text).is_dir():
        return name, folder
    if Path(folder).expanduser().is_dir():
        raise ValueError(f"there is a folder ./{text} and a folder {folder}: write ./{text}, or {name}=./{folder}")
    return None


def _checked(name: object) -> str:
    if not isinstance(name, str) or not is_root_name(name):
        raise ValueError(f"{name!r} is no name: letters, digits, `_`, `-` and `.` make one, a letter or digit first")
    return name
