"""What `imgrec doctor` finds, and in what."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: the check that found it, what it is, and what to do.

    `fix` mends it, where a program can; the remedy says what that does, or what the user has to do instead.
    """

    check: str
    what: str
    remedy: str
    fix: Callable[[], object] | None = None


@dataclass(frozen=True)
class CheckedLibrary:
    """A library that nobody writes. `thorough` compares everything where else a sample does."""

    library: Library
    registry: Registry
    thorough: bool = False


Check = Callable[[CheckedLibrary], Iterator[Finding]]
