"""A folder of photos and its registry, small enough for a test."""

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from imgrec.storage.photos.roots import one_root
from imgrec.storage.photos.walk import Walking
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import ScanReport, scan_photos

R = TypeVar("R")

# Long before any scan, so that the rule about the clock's grain lets a file rest.
LONG_AGO_NS = 1_600_000_000_000_000_000


class InProcess(Executor):
    """Does at once and in this process what it is given, and counts it."""

    workers = 1

    def __init__(self) -> None:
        self.calls = 0

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        self.calls += 1
        future: Future[R] = Future()
        future.set_result(function(*args, **kwargs))
        return future


class Reader(InProcess):
    """Remembers which files a scan reads; `before` happens just before that."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []
        self.before: Callable[[], None] = lambda: None

    def submit(self, function: Callable[..., R], /, *args: Any, **kwargs: Any) -> Future[R]:
        self.before()
        self.paths += args[0]
        return super().submit(function, *args, **kwargs)


class Photos:
    """A folder of photos, `root`, and the registry that scans of it, or of `roots`, fill."""

    def __init__(self, root: Path, registry: Registry) -> None:
        self.root = root
        self.roots = one_root(root)
        self.registry = registry
        self.reader = Reader()
        root.mkdir(exist_ok=True)

    def write(self, *names: str | bytes, content: bytes | int = 0) -> None:
        """Write files that were changed long ago: bytes as they are, or the tiny picture of a number."""
        for name in names:
            path = self.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(content) if isinstance(content, int) else content)
            backdate(path)

    def path(self, name: str | bytes) -> Path:
        return self.root / os.fsdecode(name)

    def move(self, old: str | bytes, new: str | bytes) -> None:
        self.path(new).parent.mkdir(parents=True, exist_ok=True)
        self.path(old).rename(self.path(new))

    def remove(self, *names: str | bytes) -> None:
        for name in names:
            self.path(name).unlink()

    def scan(
        self,
        max_missing_share: float = 0.5,
        on_read: Callable[[int, int], None] = lambda done, total: None,
        on_moved: Callable[[], None] | None = None,
        walking: Walking = Walking(),
    ) -> ScanReport:
        """Scan; `read` then has the paths of the files that were opened."""
        wait_for_another_ctime(self.root.parent)
        self.reader.paths = []
        return scan_photos(
            self.registry, self.roots, self.reader, max_missing_share, 60, on_read, on_moved, walking,
            moved=[""] if on_moved else [],
        )  # fmt: skip

    @property
    def read(self) -> list[str]:
        return self.reader.paths

    def ids(self) -> dict[str, int]:
        """Present photos: name on disk → id."""
        rows = self.registry.connection.execute("SELECT path, raw_path, id FROM images WHERE missing_since IS NULL")
        return {path if raw is None else os.fsdecode(raw): image_id for path, raw, image_id in rows}

    def missing(self) -> list[int]:
        rows = self.registry.connection.execute("SELECT id FROM images WHERE missing_since IS NOT NULL ORDER BY id")
        return [row[0] for row in rows]

    def status(self, name: str) -> str:
        return str(self.registry.images([self.ids()[name]])[self.ids()[name]].status)


def picture(number: int) -> bytes:
    """A PNG of a few pixels, another one for every number."""
    values = np.frombuffer(hashlib.sha256(str(number).encode()).digest()[:27], np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values.reshape(3, 3, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def backdate(path: Path) -> None:
    os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))


def wait_for_another_ctime(folder: Path) -> None:
    """Wait for the file system's next tick (some milliseconds), so that earlier and later changes differ in ctime."""
    clock = folder / ".clock"
    clock.touch()
    before = clock.stat().st_ctime_ns
    while clock.stat().st_ctime_ns == before:
        clock.touch()
