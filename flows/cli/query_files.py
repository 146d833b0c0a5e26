"""Where queries come from: paths, folders, patterns, a list, standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from glob import has_magic, iglob
from pathlib import Path
from typing import IO, TYPE_CHECKING

from imgrec.flows.cli.console import complain
from imgrec.search.errors import QueryError
from imgrec.search.urls import fetch, is_url
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.walk import Walking, WalkReport, walk_photos

if TYPE_CHECKING:
    from imgrec.search.pictures import Picture

STDIN = "-"
PUBLIC, ANY = "public", "any"


class QueryFiles:
    """Yields the pictures that arguments mean, as they are found; what means none is told, and counts as `failed`."""

    def __init__(self, arguments: Iterable[str], urls: str | None = None) -> None:
        self._arguments = arguments
        self._urls = urls
        self.failed = False

    def __iter__(self) -> Iterator[Picture]:
        for argument in self._arguments:
            if argument == STDIN:
                yield sys.stdin.buffer
            elif is_url(argument):
                yield from self._fetched(argument)
            elif (folder := Path(argument).expanduser()).is_dir():
                yield from self._told(argument, _photos_below(folder), "no photos below this folder")
            elif has_magic(argument) and not folder.exists():
                found = iglob(os.path.expanduser(argument), recursive=True)  # noqa: PTH111, PTH207 - bytes that are no UTF-8
                files = sorted(path for path in found if not os.path.isdir(path))  # noqa: PTH112
                yield from self._told(argument, files, "no file matches this pattern")
            else:
                yield argument

    def _fetched(self, url: str) -> Iterator[Picture]:
        try:
            if self._urls is None:
                raise QueryError(f"query {url!r}: nothing is fetched from the web unless --urls says so")
            yield fetch(url, allow_private=self._urls == ANY)
        except QueryError as error:
            complain(str(error))
            self.failed = True

    def _told(self, argument: str, files: Iterable[str], nothing: str) -> Iterator[str]:
        some = False
        for file in files:
            some = True
            yield file
        if not some:
            complain(f"query {printable(argument)}: {nothing}")
            self.failed = True


def listed(file: IO[bytes], nul: bool) -> Iterator[str]:
    """Yield the lines of a file as paths or ids, as soon as each is there, or what NUL bytes end."""
    if not nul:
        for line in file:
            if line := line.rstrip(b"\r\n"):
                yield os.fsdecode(line)
        return
    left = b""
    while data := os.read(file.fileno(), 65_536):
        *names, left = (left + data).split(b"\0")
        yield from (os.fsdecode(name) for name in names if name)
    if left:
        yield os.fsdecode(left)


def _photos_below(folder: Path) -> Iterator[str]:
    for found in walk_photos(folder, WalkReport(), Walking()):
        yield os.path.join(folder, found.path)  # noqa: PTH118 - ten times as fast
