"""Find the photos below a folder."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

from imgrec.storage.machine.times import storable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
HEIF_SUFFIXES = frozenset({".heic", ".heif"})


class FoundFile(NamedTuple):
    """A photo's path relative to the root (surrogate-escaped where it is not UTF-8) and its stat."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: str, size: int, status: os.stat_result) -> Self:
        """Describe a file as the registry keeps it: times that it cannot hold are the nearest ones that it can."""
        return cls(path, size, storable(status.st_mtime_ns), storable(status.st_ctime_ns))


@dataclass
class WalkReport:
    """What a walk saw beside photos; `unreadable_folders` also has files that cannot even be examined."""

    other_files: Counter[str] = field(default_factory=Counter)
    unreadable_folders: dict[str, str] = field(default_factory=dict)


def photo_suffixes() -> frozenset[str]:
    """The file suffixes that count as photos: HEIF only where the [heif] extra is installed."""
    from importlib.util import find_spec

    return SUFFIXES | HEIF_SUFFIXES if find_spec("pillow_heif") else SUFFIXES


def walk_photos(root: Path, report: WalkReport) -> Iterator[FoundFile]:
    """Yield every photo below `root` in the order of paths.

    Symbolic links are not followed (they are counted as `symlink`), so that a loop cannot trap the walk and no photo
    counts twice. Folders that hold a library are left out, and so are macOS's `._` twins. A folder that cannot be
    read goes into the report, so that nobody takes its photos for deleted.
    """
    suffixes = photo_suffixes()
    open_folders = [("", _list_folder(root, "", report))]
    while open_folders:
        prefix, entries = open_folders[-1]
        for entry in entries:
            name = entry.name
            try:
                if entry.is_symlink():
                    report.other_files["symlink"] += 1
                elif entry.is_dir(follow_symlinks=False):
                    open_folders.append((f"{prefix}{name}/", _list_folder(root, prefix + name, report)))
                    break
                elif name.startswith("._"):
                    report.other_files["macOS twin"] += 1
                elif (suffix := os.path.splitext(name)[1].lower()) not in suffixes:
                    report.other_files[suffix or "no suffix"] += 1
                elif entry.is_file(follow_symlinks=False):
                    stat = entry.stat(follow_symlinks=False)
                    yield FoundFile.of(prefix + name, stat.st_size, stat)
                else:
                    report.other_files["device, socket or pipe"] += 1
            except FileNotFoundError:
                continue  # deleted since the folder was listed
            except OSError as error:
                report.unreadable_folders[prefix + name] = error.strerror or str(error)
        else:
            open_folders.pop()


def _list_folder(root: Path, folder: str, report: WalkReport) -> Iterator[os.DirEntry[str]]:
    """List a folder in the order of the paths in and below it; nothing of one that cannot be read or is a library."""
    try:
        with os.scandir(root / folder if folder else root) as entries:
            found = sorted(entries, key=_place)
    except OSError as error:
        report.unreadable_folders[folder] = error.strerror or str(error)
        return iter(())
    if folder and {"library.json", "registry.sqlite"} <= {entry.name for entry in found}:
        report.other_files["library"] += 1
        return iter(())
    return iter(found)


def _place(entry: os.DirEntry[str]) -> str:
    """What a folder's name is followed by in every path below it decides whether `a.jpg` comes before `a/b.jpg`."""
    try:
        return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
    except OSError:  # the walk tells of it
        return entry.name
