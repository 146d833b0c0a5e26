"""Bring the registry up to date with a folder of photos."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from imgrec.storage.errors import PhotoRootError, PhotosVanishedError
from imgrec.storage.machine.pool import map_batches
from imgrec.storage.photos.decoding import decoder_failure
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.probe import Probe, probe_failed, probe_files
from imgrec.storage.photos.roots import Roots
from imgrec.storage.photos.walk import Walking, WalkReport, walk_roots
from imgrec.storage.registry import identity, probes
from imgrec.storage.registry.comparison import (
    ComparedRoot,
    Comparison,
    compare,
    is_known,
)
from imgrec.storage.registry.identity import Identified
from imgrec.storage.registry.registry import Registry

FILES_PER_PROBE = 16
# What was read is kept that often. A commit may take as long as reading some photos, where it waits for the disk.
SAVE_EVERY_S = 1.0
# Below this many photos a share says little: one deleted photo of three is no lost disk.
SHARE_NEEDS_PHOTOS = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanReport:
    """What a scan found and read, in files, and what it did, in images; `left_out` counts files and folders by rule,
    `left_alone` says of roots that seem not to be mounted why."""

    found: int
    read: int
    identified: Identified
    other_files: dict[str, int]
    unreadable_folders: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)
    left_alone: dict[str, str] = field(default_factory=dict)

    @property
    def unchanged(self) -> int:
        """Files that hold what they held before, whether or not they had to be read to know it."""
        did = self.identified
        return self.found - did.new - did.copied - did.moved - did.changed - did.returned


def preview_scan(
    registry: Registry,
    roots: Roots,
    walking: Walking = Walking(),
    accept_missing: bool = False,
    moved: Collection[str] = (),
) -> tuple[Comparison, WalkReport]:
    """Say what a scan would find, reading no photo and changing nothing.

    A named root that looks as if it were not mounted is left alone. One whose folder is there and has no photos any
    more does not look so if missing photos are accepted, or if the photos are said to have moved there.

    Raises:
        PhotoRootError: no root is there.
    """
    if_empty = set() if accept_missing else roots.folders.keys() - {"", *moved}
    report = WalkReport(left_alone=roots.absent(if_empty))
    _check_roots(roots, report.left_alone)
    walked = walk_roots(roots, report, walking, partial(is_known, registry.connection))
    comparison = compare(registry.connection, roots, walked, report, if_empty)
    _check_roots(roots, report.left_alone)
    return comparison, report


def foresee_refusal(
    roots: Roots, comparison: Comparison, max_missing_share: float, moved: Collection[str]
) -> str | None:
    """Say whether a scan would stop since photos are gone; files that were not read may be the same ones, moved."""
    for name, root in comparison.roots.items():
        if _too_many(root.gone, root, max_missing_share):
            certain = comparison.found == comparison.unchanged
            outcome = "would be refused" if certain else "may be refused, unless they only moved"
            return f"{outcome}: {_vanished(roots, name, root.gone, root, moved)}"
    return None


def scan_photos(
    registry: Registry,
    roots: Roots,
    pool: Executor,
    max_missing_share: float,
    decode_timeout_s: float,
    on_read: Callable[[int, int], None] = lambda done, total: None,
    on_accepted: Callable[[], None] | None = None,
    walking: Walking = Walking(),
    moved: Collection[str] = (),
) -> ScanReport:
    """Find new, changed, moved, copied and missing photos below `roots` and write that to the registry.

    What `walking` excludes leaves the library as if it were missing, and does not count as gone; so do the photos of a
    root that is none any more. A named root that seems not to be mounted is left alone, with all its photos.

    Only files that are new or whose stat changed are read, in `pool`; `on_read(done, total)` hears of the progress.
    `on_accepted` notes what is new about the roots, of which the photos of some may have `moved`. It is called when the
    scan is accepted, right before it is committed: killed in between, the next scan is again one of these roots, which
    finds what this one found.

    A file whose header ends its worker, or takes longer than `decode_timeout_s`, is a failed image, once and for all.

    Raises:
        PhotoRootError: no root is there.
        PhotosVanishedError: more than `max_missing_share` of a root's photos would be marked missing; nothing was
            written.
    """
    connection = registry.connection
    comparison, walked = preview_scan(registry, roots, walking, max_missing_share >= 1, moved)
    for name, root in comparison.roots.items():
        if root.found == 0 and _too_many(root.gone, root, max_missing_share):
            raise _vanished(roots, name, root.gone, root, moved)
    probes.discard_stale_probes(connection)
    done = 0
    paths = probes.files_to_read(connection, FILES_PER_PROBE)
    known_failures = registry.decoder_failures() if comparison.to_read else {}
    probe = partial(
        probe_files,
        roots,
        decode_timeout_s=decode_timeout_s,
        known_failures=known_failures,
        follow_links=walking.follow_links,
    )

    def blame(path: str, death: Exception) -> list[Probe]:
        error = decoder_failure(death, decode_timeout_s)
        return pool.submit(probe_failed, roots, path, error.status, str(error), walking.follow_links).result()

    unsaved: list[Probe] = []
    saved_s = time.monotonic()
    try:
        for read in map_batches(pool, probe, paths, in_flight=64, blame=blame):
            unsaved += read
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                probes.record_probes(connection, unsaved)
                unsaved, saved_s = [], time.monotonic()
            done += len(read)
            on_read(done, comparison.to_read)
    finally:
        probes.record_probes(connection, unsaved)
    with registry.transaction():
        now = datetime.now(UTC).isoformat()
        identified = identity.apply(connection, now)
        lost = identity.count_lost(connection, roots, now) if identified.missing else {}
        for name, root in comparison.roots.items():
            if _too_many(lost.get(name, 0), root, max_missing_share):
                raise _vanished(roots, name, lost[name], root, moved)
        if on_accepted is not None:
            on_accepted()
    for folder, reason in walked.unreadable_folders.items():
        file = printable(str(roots.find(folder))).rstrip("/")
        logger.warning("%s cannot be read (%s): its photos stay as they were", file, reason)
    return ScanReport(
        found=comparison.found,
        read=done,
        identified=identified,
        other_files=dict(walked.other_files),
        unreadable_folders=walked.unreadable_folders,
        left_out=dict(walked.left_out),
        left_alone=walked.left_alone,
    )


def _check_roots(roots: Roots, left_alone: Mapping[str, str]) -> None:
    if not roots.are_named and not Path(roots.folders[""]).is_dir():
        raise PhotoRootError(
            f"{printable(str(roots))} is no folder: mount it, or if the photos moved run "
            "`imgrec ingest NEW_FOLDER --photos-moved`"
        )
    if left_alone.keys() == roots.folders.keys():
        why = "; ".join(f"{printable(roots.describe(name))}: {reason}" for name, reason in left_alone.items())
        raise PhotoRootError(
            f"no folder of photos is there ({why}): mount one, or if photos moved run "
            "`imgrec ingest NAME=NEW_FOLDER --photos-moved`"
        )


def _too_many(gone: int, root: ComparedRoot, max_missing_share: float) -> bool:
    if root.found == 0:
        return gone > 0 and max_missing_share < 1
    return root.present >= SHARE_NEEDS_PHOTOS and gone / root.present > max_missing_share


def _vanished(roots: Roots, name: str, gone: int, root: ComparedRoot, moved: Collection[str]) -> PhotosVanishedError:
    what, where = f"{gone:,} of {root.present:,} photos are", printable(roots.describe(name))
    if name in moved:
        what += f" not below {where}: name the folder that they moved to"
    else:
        what += f" gone from {where}: if a disk is missing, mount it"
    return PhotosVanishedError(f"{what}; if they were deleted, run again with --accept-missing")
