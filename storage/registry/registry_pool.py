"""A registry for many readers at once."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imgrec.storage.registry.registry import Registry


class RegistryPool:
    """Lends connections that read, one to a thread at a time; there are as many as threads that read at once.

    (sqlite3 lets threads share a connection, and then may run the statement of one with the values of another.)
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: deque[tuple[Registry, ExitStack]] = deque()
        self._closed = False

    @contextmanager
    def reader(self) -> Iterator[Registry]:
        """Lend a registry."""
        try:
            registry, connection = self._idle.pop()
        except IndexError:
            connection = ExitStack()
            registry = connection.enter_context(Registry.open_for_reading(self._path))
        try:
            yield registry
        finally:
            self._idle.append((registry, connection))
            if self._closed:
                self._close_idle()

    def close(self) -> None:
        """Close all connections: at once, or as soon as they are given back."""
        self._closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            try:
                _, connection = self._idle.pop()
            except IndexError:  # another thread was quicker
                return
            connection.close()
