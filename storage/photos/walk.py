"""Find the photos below a folder."""

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from imgrec.storage.machine.times import storable
from imgrec.storage.photos.exclusion import APPLE_DOUBLE, IGNORE_FILE, Rules
from imgrec.storage.photos.formats import HEAD_BYTES, looks_like_a_picture, photo_suffixes
from imgrec.storage.photos.links import Links, folder_of_target
from imgrec.storage.photos.roots import Roots, one_root


class FoundFile(NamedTuple):
    """A photo's path in the library (surrogate-escaped where it is not UTF-8) and its stat."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: str, size: int, status: os.stat_result) -> Self:
        """Describe a file as the registry keeps it: times that it cannot hold are the nearest ones that it can."""
        return cls(path, size, storable(status.st_mtime_ns), storable(status.st_ctime_ns))


@dataclass(frozen=True)
class Walking:
    """How photos are looked for: what gitignore's patterns leave out, and whether symbolic links are followed."""

    exclude: tuple[str, ...] = ()
    follow_links: bool = False


@dataclass
class WalkReport:
    """What a walk saw beside photos; `unreadable_folders` also has files that cannot even be examined.

    `left_out` counts photos and whole folders by the rule that leaves them out, but for macOS's `._` twins, which are
    other files; `on_left_out` hears of each, of a folder with a slash at its end. `left_alone` says of roots that seem
    not to be mounted why.
    """

    other_files: Counter[str] = field(default_factory=Counter)
    unreadable_folders: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    left_alone: dict[str, str] = field(default_factory=dict)
    on_left_out: Callable[[str], object] = lambda path: None

    def leave_out(self, path: str, rule: str) -> None:
        if rule == APPLE_DOUBLE:
            self.other_files[MACOS_TWIN] += 1
        else:
            self.left_out[rule] += 1
        self.on_left_out(path)


SYMLINK, BROKEN_SYMLINK, DOUBLE_SYMLINK = "symlink", "broken symlink", "symlink to what is here already"
MACOS_TWIN, SPECIAL, LIBRARY, NO_SUFFIX = "macOS twin", "device, socket or pipe", "library", "no suffix"


def walk_photos(root: Path, report: WalkReport, walking: Walking = Walking()) -> Iterator[FoundFile]:
    """Yield every photo below a folder, as `walk_roots` does."""
    for _, files in walk_roots(one_root(root), report, walking):
        yield from files


def walk_roots(
    roots: Roots,
    report: WalkReport,
    walking: Walking = Walking(),
    is_known: Callable[[str], bool] = lambda path: False,
) -> Iterator[tuple[str | None, Iterator[FoundFile]]]:
    """Yield each root by name, but for those that the report has as `left_alone`, with every photo below it in the
    order of paths, and at last (name None) the photos that symbolic links lead to. Those of one come before the next.

    Suffixes say which files are photos. Only files without any are opened, to look at their first bytes, and not even
    those that `is_known` knows as photos by their path.

    Symbolic links are not followed (they are counted as `symlink`) unless it is asked for; then they come last, so that
    what they lead to inside of a root has its own path. Folders that hold a library are left out, and so is litter. A
    folder that cannot be read goes into the report, so that nobody takes its photos for deleted.

    Raises:
        IgnoreFileError: a folder's ignore file cannot be read, or a line of it is no pattern.
    """
    walk = _Walk(roots, report, Links() if walking.follow_links else None, is_known)
    try:
        for name in roots.in_order():
            if name not in report.left_alone:
                yield name, walk.below(name, Rules(walking.exclude, name))
        yield None, walk.behind_links()
    finally:
        walk.close()


class _OpenFolder(NamedTuple):
    """A folder of which some entries are still to be looked at: how paths in it begin, and what is left out of it."""

    prefix: str
    entries: Iterator[os.DirEntry[str]]
    rules: Rules


class _Walk:
    def __init__(self, roots: Roots, report: WalkReport, links: Links | None, is_known: Callable[[str], bool]) -> None:
        self._roots = roots
        self._report = report
        self._links = links
        self._linked_folders: list[tuple[str, Rules]] = []
        self._is_known = is_known
        self._suffixes = photo_suffixes()

    def below(self, folder: str, rules: Rules) -> Iterator[FoundFile]:
        open_folders = [self._open(folder, rules)]
        while open_folders:
            prefix, entries, rules = open_folders[-1]
            for entry in entries:
                path = prefix + entry.name
                try:
                    if entry.is_symlink():
                        self._take_link(entry, path, rules)
                    elif entry.is_dir(follow_symlinks=False):
                        if self._is_entered(path, entry.name, rules):
                            open_folders.append(self._open(path, rules))
                            break
                    elif not self._is_wanted(path, entry.name, rules):
                        continue
                    elif entry.is_file(follow_symlinks=False):
                        status = entry.stat(follow_symlinks=False)
                        if self._may_be_photo(path):
                            yield FoundFile.of(path, status.st_size, status)
                    else:
                        self._report.other_files[SPECIAL] += 1
                except FileNotFoundError:
                    continue  # deleted since the folder was listed
                except OSError as error:
                    self._cannot_read(path, error)
            else:
                open_folders.pop()

    def behind_links(self) -> Iterator[FoundFile]:
        """Yield what symbolic links lead to and was not found yet: folders first, which may hold more links."""
        if self._links is None:
            return
        while self._linked_folders:
            yield from self.below(*self._linked_folders.pop(0))
        for path in self._links.waiting():
            try:
                status = self._roots.locate(path).stat()
                # What lies in a folder that was walked was found there, unless its own name says nothing or hides it.
                is_here = self._links.is_known(folder_of_target(self._roots.locate(path))) and self._is_found(path)
            except OSError:
                self._report.other_files[BROKEN_SYMLINK] += 1
                continue
            if is_here or not self._links.is_new(status):
                self._report.other_files[DOUBLE_SYMLINK] += 1
            elif self._may_be_photo(path):
                yield FoundFile.of(path, status.st_size, status)

    def close(self) -> None:
        if self._links is not None:
            self._links.close()

    def _open(self, folder: str, rules: Rules) -> _OpenFolder:
        """List a folder in the order of paths in and below it; nothing of one that cannot be read or is a library."""
        prefix = f"{folder}/" if folder else ""
        nothing = _OpenFolder(prefix, iter(()), rules)
        path = Path(self._roots.folders[folder]) if folder in self._roots.folders else self._roots.locate(folder)
        try:
            if self._links is not None and not self._links.is_new(path.stat()):
                return nothing  # it was walked by another way
            with os.scandir(path) as entries:
                found = sorted(entries, key=_place)
            names = {entry.name for entry in found}
            if folder not in self._roots.folders and {"library.json", "registry.sqlite"} <= names:
                self._report.other_files[LIBRARY] += 1
                return nothing
            if IGNORE_FILE in names and (ignore_file := path / IGNORE_FILE).is_file():
                rules = rules.within(folder, ignore_file)
        except OSError as error:
            self._cannot_read(folder, error)
            return nothing
        return _OpenFolder(prefix, iter(found), rules)

    def _take_link(self, entry: os.DirEntry[str], path: str, rules: Rules) -> None:
        if self._links is None:
            self._report.other_files[SYMLINK] += 1
            return
        try:
            mode = entry.stat().st_mode
        except OSError:
            self._report.other_files[BROKEN_SYMLINK] += 1
            return
        if stat.S_ISDIR(mode):
            if self._is_entered(path, entry.name, rules):
                self._linked_folders.append((path, rules))
        elif not stat.S_ISREG(mode):
            self._report.other_files[SPECIAL] += 1
        elif self._is_wanted(path, entry.name, rules):
            self._links.keep(path)

    def _is_entered(self, path: str, name: str, rules: Rules) -> bool:
        if (rule := rules.against_folder(path, name)) is None:
            return True
        self._report.leave_out(f"{path}/", rule)
        return False

    def _is_wanted(self, path: str, name: str, rules: Rules) -> bool:
        """Whether a file may be a photo by its name, and no rule leaves it out; the report has what is not."""
        is_named = self._is_named_as_photo(name)
        asks = name.startswith("._") or (is_named and rules.has_patterns)
        if asks and (rule := rules.against_file(path, name)) is not None:
            self._report.leave_out(path, rule)
            return False
        if not is_named and name != IGNORE_FILE:
            self._report.other_files[_suffix(name) or NO_SUFFIX] += 1
        return is_named

    def _is_named_as_photo(self, name: str) -> bool:
        suffix = _suffix(name)
        return suffix in self._suffixes or (not suffix and name[0] != ".")

    def _may_be_photo(self, path: str) -> bool:
        """Whether a file has a suffix, is known as a photo, or begins like one."""
        if (
            os.path.splitext(path)[1]
            or self._is_known(path)
            or looks_like_a_picture(_first_bytes(self._roots.locate(path)))
        ):
            return True
        self._report.other_files[NO_SUFFIX] += 1
        return False

    def _is_found(self, link: str) -> bool:
        return self._is_named_as_photo(Path(os.path.realpath(self._roots.locate(link))).name)

    def _cannot_read(self, path: str, error: OSError) -> None:
        self._report.unreadable_folders[path] = error.strerror or str(error)


def _place(entry: os.DirEntry[str]) -> str:
    """What a folder's name is followed by in every path below it decides whether `a.jpg` comes before `a/b.jpg`."""
    try:
        return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
    except OSError:  # the walk tells of it
        return entry.name


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _first_bytes(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
