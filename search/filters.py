"""Which photos may be hits: a small description, and the conditions in SQL that it stands for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from imgrec.search.path_patterns import check_patterns, path_condition
from imgrec.search.ranges import size_range
from imgrec.storage.errors import FilterError
from imgrec.storage.registry.conditions import Condition

# Formats by the names that people have for them. A JPEG of several pictures (MPO) is a JPEG to whoever took it.
_FORMATS = {
    "jpeg": ("JPEG", "MPO"), "png": ("PNG",), "webp": ("WEBP",), "bmp": ("BMP", "DIB"), "gif": ("GIF",),
    "tiff": ("TIFF",), "avif": ("AVIF",), "ppm": ("PPM",), "jpeg2000": ("JPEG2000",), "heic": ("HEIF",),
    "jxl": ("JXL",), "raw": ("RAW",),
}  # fmt: skip
_ALSO_CALLED = {
    "jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000", "heif": "heic", "pgm": "ppm", "pbm": "ppm", "pnm": "ppm",
    "mpo": "jpeg", "dib": "bmp", "dng": "raw", "cr2": "raw", "cr3": "raw", "nef": "raw", "arw": "raw",
}  # fmt: skip


@dataclass(frozen=True)
class Filter:
    """The photos that may be hits: those for which all holds that is given; of several of a kind, one has to.

    Args:
        where: a condition in SQL on the columns of `images` (`imgrec sql` shows them), or several, all of which hold.
        paths: patterns of gitignore, of paths below the folder of photos: `2019/**`, `*.jpg`, `!*-edited.jpg`.
        ids: ids of images; None allows all.
        size: of the file, in bytes: `1M..5M`, `+500k` (at least), `-2G` (at most).
        formats: as `jpeg`, `png`, `heic`, `raw`.

    Raises:
        FilterError: a part of it says nothing.
    """

    where: str | tuple[str, ...] | None = None
    paths: tuple[str, ...] = ()
    ids: tuple[int, ...] | None = None
    size: str | None = None
    formats: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("paths", "formats"):
            self._set(name, _several(getattr(self, name)))
        self._set("where", () if self.where is None else _several(self.where))
        if self.ids is not None:
            self._set("ids", tuple(map(int, self.ids)))
            if any(not 0 <= image_id < 2**63 for image_id in self.ids):
                raise FilterError("ids: give numbers from 0 on, as `imgrec sql 'select id, path from images'` shows")
        if not all(map(str.strip, self.sql)):
            raise FilterError("a condition is empty: give an SQL expression such as width > 2000")
        check_patterns(self.paths)
        _ = self.conditions  # whose parts are read here, once

    @property
    def sql(self) -> tuple[str, ...]:
        """The conditions that somebody wrote."""
        return self.where if isinstance(self.where, tuple) else ()

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """What has to hold of an image, but for its id; what somebody wrote comes last, when few are left."""
        found = []
        if self.size is not None:
            found.append(_between("size", *size_range(self.size), before="<="))
        if self.formats:
            names = [name for written in self.formats for name in _formats_called(written)]
            found.append(Condition(f"format IN ({','.join('?' * len(names))})", tuple(names)))
        if self.paths:
            found.append(path_condition(self.paths))
        return (*found, *map(Condition, self.sql))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # it is frozen for all others


FilterLike: TypeAlias = Filter | str


def as_filter(where: FilterLike | None) -> Filter | None:
    """A string is a condition in SQL."""
    return Filter(where) if isinstance(where, str) else where


def _several(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _between(column: str, low: object, high: object, before: str) -> Condition:
    ends = [(f"{column} >= ?", low), (f"{column} {before} ?", high)]
    given = [(sql, value) for sql, value in ends if value is not None]
    return Condition(" AND ".join(sql for sql, _ in given), tuple(value for _, value in given))


def _formats_called(name: str) -> tuple[str, ...]:
    called = name.strip().lower().removeprefix(".")
    called = _ALSO_CALLED.get(called, called)
    if called not in _FORMATS:
        raise FilterError(f"{name!r} is no format that is read: there are {', '.join(_FORMATS)}")
    return _FORMATS[called]
