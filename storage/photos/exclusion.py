"""What a walk leaves out: the litter of other programs, and what gitignore's patterns name."""

import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imgrec.storage.errors import IgnoreFileError
from imgrec.storage.machine.bounded import read_small
from imgrec.storage.photos.roots import prefix_of

IGNORE_FILE = ".imgrecignore"
# Folders, whatever the case, in which a NAS, Windows and others keep copies, thumbnails and what was deleted. Those
# that begin with a dot (.thumbnails, .stversions, .Trash-1000) are hidden, and left out as such.
LITTER = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found",
    "system volume information", "__macosx",
})  # fmt: skip
HIDDEN, APPLE_DOUBLE = ".*/", "._*"


class PatternError(ValueError):
    """A line is no pattern of gitignore."""


@dataclass(frozen=True)
class Pattern:
    """A line of gitignore, as pathspec compiles it: `mark` is the group of the slash after a folder that it names."""

    text: str
    takes_out: bool
    regex: re.Pattern[str]
    mark: str | None

    def matches(self, path: str, is_folder: bool) -> bool:
        """Whether it names this file or folder itself; of what lies above, the walk has asked already."""
        if self.mark is None:
            return self.regex.search(path) is not None
        subject = f"{path}/" if is_folder else path
        end = len(path) if is_folder else -1
        return any(found.start(self.mark) == end for found in self.regex.finditer(subject))


class _Level(NamedTuple):
    """The patterns that hold below a folder, the last one first."""

    prefix: str
    patterns: tuple[Pattern, ...]


class Rules:
    """What is left out of `folder`, which is a root, and all below it.

    As in git, the patterns given outweigh those of the ignore files, the deeper of those the others, and later lines
    earlier ones. What no pattern speaks of is left out if it is litter, so that `!.photos/` takes a hidden folder in.
    """

    def __init__(self, given: Sequence[str] = (), folder: str = "") -> None:
        self._given = _Level(prefix_of(folder), parse_patterns(given))
        self._of_files: tuple[_Level, ...] = ()

    def within(self, folder: str, ignore_file: Path) -> "Rules":
        """The rules below a folder that has an ignore file.

        Raises:
            IgnoreFileError: it cannot be read, or a line of it is no pattern.
        """
        try:
            lines = read_small(ignore_file).decode("utf-8", "surrogateescape").splitlines()
            level = _Level(prefix_of(folder), parse_patterns(lines))
        except (OSError, PatternError) as error:
            said = error.strerror if isinstance(error, OSError) else error
            raise IgnoreFileError(f"{ignore_file}: {said}: mend it, or take it away") from error
        below = copy(self)
        below._of_files = (level, *self._of_files)
        return below

    @property
    def has_patterns(self) -> bool:
        """Whether anything is left out beside litter."""
        return bool(self._given.patterns or self._of_files)

    def against_folder(self, path: str, name: str) -> str | None:
        """The rule that leaves a folder out, or None."""
        if (said := self._said_of(path, is_folder=True)) is not None:
            return said.text if said.takes_out else None
        if name.startswith("."):
            return HIDDEN
        return f"{name}/" if name.lower() in LITTER else None

    def against_file(self, path: str, name: str) -> str | None:
        """The rule that leaves a file out, or None."""
        if (said := self._said_of(path, is_folder=False)) is not None:
            return said.text if said.takes_out else None
        return APPLE_DOUBLE if name.startswith("._") else None

    def _said_of(self, path: str, is_folder: bool) -> Pattern | None:
        for prefix, patterns in (self._given, *self._of_files):
            for pattern in patterns:
                if pattern.matches(path[len(prefix) :], is_folder):
                    return pattern
        return None


def parse_patterns(lines: Sequence[str]) -> tuple[Pattern, ...]:
    """Parse the lines of a gitignore file (https://git-scm.com/docs/gitignore), the last one first.

    Raises:
        PatternError: one is no pattern.
    """
    if not lines:
        return ()
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern  # a tenth of a second, for who has patterns

    found: list[Pattern] = []
    for number, line in enumerate(lines, 1):
        try:
            parsed = GitIgnoreSpecPattern(line)
        except (ValueError, re.error):
            raise PatternError(f"line {number}, {line!r}, is no pattern of gitignore") from None
        if parsed.include is not None and parsed.regex is not None:  # no comment
            found.append(Pattern(line, parsed.include, parsed.regex, next(iter(parsed.regex.groupindex), None)))
    return tuple(reversed(found))
