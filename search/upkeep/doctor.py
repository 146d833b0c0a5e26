"""`imgrec doctor`: check everything in a library against everything else, and mend what can be mended."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.upkeep.check_indexes import IndexChecks
from imgrec.search.upkeep.check_pictures import check_maps, check_thumbnails
from imgrec.search.upkeep.check_registry import (
    LOST_REGISTRY,
    check_integrity,
    check_leftovers,
    check_references,
    check_roots,
    check_tables,
)
from imgrec.search.upkeep.check_vectors import check_mirror, check_shard_files, check_unknown_shards, check_unsharded
from imgrec.search.upkeep.findings import Check, CheckedLibrary, Finding
from imgrec.storage.errors import LibraryFormatError, LibraryNotFoundError
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import HOLDER, read_holder, undisturbed, writer_lock
from imgrec.storage.registry.registry import Registry

# Others can only be asked when these find nothing.
FIRST: tuple[Check, ...] = (check_integrity, check_tables)
CHECKS: tuple[Check, ...] = (
    check_references,
    check_roots,
    check_shard_files,
    check_unknown_shards,
    check_unsharded,
    check_mirror,
    check_thumbnails,
    check_maps,
    check_leftovers,
)


@dataclass(frozen=True)
class Diagnosis:
    """A finding, and whether it is mended."""

    finding: Finding
    fixed: bool = False


def examine(
    root: Path,
    parameters: IndexParameters,
    fix: bool = False,
    thorough: bool = False,
    models_root: Path | None = None,
) -> list[Diagnosis]:
    """Check the library at `root`; with `fix`, mend what can be, and look again.

    `thorough` compares all vectors instead of a sample; `parameters` are for indexes that no longer say their own. With
    `models_root`, the models that new pictures need are looked for there.

    Raises:
        LibraryNotFoundError: there is no library.
        LibraryLockedError: somebody writes it, and what is half done would look damaged.
    """
    try:
        library = open_library(root)
    except LibraryFormatError as error:
        return [Diagnosis(Finding("library", str(error), "restore library.json from a backup"))]
    writable = os.access(root, os.W_OK)
    diagnoses = list(_check_lock(root, fix)) if writable else []
    lock, open_registry = (
        (writer_lock(root), Registry.open_for_writing) if fix else (undisturbed(root), Registry.open_for_reading)
    )
    with lock if writable or fix else nullcontext():
        try:
            with Registry.open_for_reading(library.registry_path):
                pass  # or else opening it for writing would make an empty one where there is none
            with open_registry(library.registry_path) as registry:
                checked = CheckedLibrary(library, registry, thorough)
                diagnoses += _run(FIRST, checked, fix)
                if all(diagnosis.fixed or diagnosis.finding.check == "lock" for diagnosis in diagnoses):
                    diagnoses += _run([*CHECKS, *IndexChecks(parameters, models_root).all()], checked, fix)
        except (LibraryFormatError, LibraryNotFoundError) as error:
            diagnoses.append(Diagnosis(Finding("registry", str(error), LOST_REGISTRY)))
    return diagnoses


def _run(checks: Sequence[Check], checked: CheckedLibrary, fix: bool) -> list[Diagnosis]:
    diagnoses = []
    for check in checks:
        found = list(check(checked))
        if not fix or not found:
            diagnoses += [Diagnosis(finding) for finding in found]
            continue
        for finding in found:
            if finding.fix is not None:
                finding.fix()
        left = list(check(checked))
        remaining = {finding.what for finding in left}
        diagnoses += [Diagnosis(finding, fixed=True) for finding in found if finding.what not in remaining]
        diagnoses += [Diagnosis(finding) for finding in left]
    return diagnoses


def _check_lock(root: Path, fix: bool) -> list[Diagnosis]:
    """Nobody holds the library, so whoever lock.json names has died."""
    with undisturbed(root):
        holder = read_holder(root)
        if holder is None:
            return []
        path = root / HOLDER
        what = f"{path} names process {holder.get('pid')} on {holder.get('host')}, which no longer runs"
        if fix:
            path.unlink()
        return [Diagnosis(Finding("lock", what, "removes it; it stands in nobody's way", path.unlink), fixed=fix)]
