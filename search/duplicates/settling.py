"""Groups that a user has settled: they are not shown again, whatever becomes of their photos' names and copies."""

from collections.abc import Iterable, Sequence

from imgrec.search.duplicates.errors import ExactCopiesError, GroupNotFoundError
from imgrec.search.duplicates.groups import EXACT, Group
from imgrec.storage.library import Library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.registry.duplicates import DIFFERENT, forget_settled, read_settled, record_settled
from imgrec.storage.registry.registry import Registry


def settle_groups(library: Library, groups: Iterable[Group], numbers: Sequence[int], verdict: str) -> list[Group]:
    """Settle those of `groups` that have these numbers, and return them; all or none.

    With the verdict `left`, a group is fine as it is. With `different`, its pictures are not the same: none of its
    contents is put beside another one of them any more, and each may have copies of its own.

    Raises:
        GroupNotFoundError: there is no group of one of the numbers.
        ExactCopiesError: a group of the same bytes is to be of different pictures.
        LibraryLockedError: somebody writes the library.
    """
    wanted = {group.number: group for group in groups if group.number in set(numbers)}
    for number in numbers:
        if number not in wanted:
            raise GroupNotFoundError(f"no group {number} is found, or it is settled: `imgrec duplicates` lists them")
        if verdict == DIFFERENT and wanted[number].kind == EXACT:
            raise ExactCopiesError(f"group {number}: these files have the same bytes; --settle leaves them as they are")
    with writer_lock(library.root), Registry.open_for_writing(library.registry_path) as registry:
        for group in wanted.values():
            record_settled(registry, verdict, group.contents)
    return list(wanted.values())


def reopen_groups(library: Library, numbers: Sequence[int]) -> None:
    """Let settled groups (by the numbers that `read_settled` gives) be found again; all or none.

    Raises:
        GroupNotFoundError: there is no settled group of one of the numbers.
        LibraryLockedError: somebody writes the library.
    """
    with writer_lock(library.root), Registry.open_for_writing(library.registry_path) as registry:
        known = {group.number for group in read_settled(registry)}
        if unknown := sorted(set(numbers) - known):
            told = ", ".join(map(str, unknown))
            raise GroupNotFoundError(f"no settled group {told}: `imgrec duplicates --settled` lists them")
        forget_settled(registry, numbers)
