"""The folders that hold a library's photos: one without a name, or any number by name."""

import errno
import os
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Roots:
    """Where a library's photos are: `folders` maps the name of each root to its folder, absolute.

    A path in the library begins with the name of its root, as in `nas/2019/a.jpg`. Where there is one root it may have
    no name (it is `""` then), and paths begin below its folder.

    `renamed` maps former names to present ones, as long as the registry may have paths of the former.
    """

    folders: Mapping[str, str]
    renamed: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(map(self.describe, self.folders))

    @property
    def are_named(self) -> bool:
        return "" not in self.folders

    def in_order(self) -> list[str]:
        """The names in the order of the paths that begin with them."""
        return sorted(self.folders, key=prefix_of)

    def describe(self, name: str) -> str:
        """A root as users write it."""
        return f"{name}={self.folders[name]}" if name else self.folders[name]

    def name_of(self, path: str) -> str | None:
        """The name of the root that a path in the library belongs to; None where that was removed."""
        return self._split(path)[0]

    @property
    def only(self) -> str | None:
        """The folder of a library that has one; else None."""
        folders = list(self.folders.values())
        return folders[0] if len(folders) == 1 else None

    def place(self, path: str) -> tuple[str, str] | None:
        """The file of a path in the library, absolute, and the folder of its root; None where that was removed."""
        name, rest = self._split(path)
        if name is None:
            return None
        folder = self.folders[name]
        return f"{folder.rstrip('/')}/{rest}", folder

    def find(self, path: str) -> str | None:
        """The file of a path in the library, absolute; None where its root was removed."""
        place = self.place(path)
        return None if place is None else place[0]

    def locate(self, path: str) -> Path:
        """The file of a path in the library, absolute.

        Raises:
            FileNotFoundError: it is of a root that was removed.
        """
        if (file := self.find(path)) is None:
            raise FileNotFoundError(errno.ENOENT, f"in none of the library's folders of photos ({self})", path)
        return Path(file)

    def absent(self, if_empty: Container[str] | None = None) -> dict[str, str]:
        """Say of the named roots that seem not to be mounted why: there is no such folder, or nothing is in it (of
        those that `if_empty` has, or of all)."""
        reasons = {
            name: _why_absent(folder, if_empty is None or name in if_empty)
            for name, folder in self.folders.items()
            if name
        }
        return {name: reason for name, reason in reasons.items() if reason}

    def moved_since(self, before: "Roots") -> set[str]:
        """The names of the roots that were in other folders."""
        return {name for name, folder in self.folders.items() if before.folders.get(name, folder) != folder}

    def _split(self, path: str) -> tuple[str | None, str]:
        if not self.are_named:
            return "", path
        name, _, rest = path.partition("/")
        if name in self.folders:
            return name, rest
        if name in self.renamed:
            return self.renamed[name], rest
        return self.renamed.get(""), path


def one_root(folder: str | os.PathLike[str]) -> Roots:
    """The roots of a library of one folder, which needs no name."""
    return Roots({"": os.fspath(folder)})


def prefix_of(name: str) -> str:
    """How the paths of a root begin."""
    return f"{name}/" if name else ""


def end_of(name: str) -> str:
    """The first text that comes after all paths of a named root."""
    return name + chr(ord("/") + 1)


def is_root_name(name: str) -> bool:
    """Whether a root may be called so: letters, digits, `_`, `-` and `.`, with no dot or dash in front."""
    return _NAME.fullmatch(name) is not None


def find_nested(folders: Iterable[str]) -> tuple[str, str] | None:
    """Find a folder that is inside another one, or given twice: (inner, outer)."""
    for outer, inner in pairwise(sorted(Path(folder).parts for folder in folders)):
        if inner[: len(outer)] == outer:
            return str(Path(*inner)), str(Path(*outer))
    return None


def _why_absent(folder: str, if_empty: bool) -> str | None:
    try:
        with os.scandir(folder) as entries:
            return None if next(entries, None) or not if_empty else "it is empty"
    except (FileNotFoundError, NotADirectoryError):
        return "there is no such folder"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
