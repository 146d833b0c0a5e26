"""Bring the registry up to date with a folder of photos."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from imgrec.storage.errors import PhotoRootError, PhotosVanishedError
from imgrec.storage.headers import read_headers
from imgrec.storage.machine.pool import map_batches
from imgrec.storage.photos.decoding import decoder_failure
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.probe import Probe, probe_failed, probe_files
from imgrec.storage.photos.walk import Walking, WalkReport, walk_photos
from imgrec.storage.registry import identity
from imgrec.storage.registry.identity import Comparison, Identified
from imgrec.storage.registry.registry import Registry

FILES_PER_PROBE = 16
# What was read is kept that often. A commit may take as long as reading some photos, where it waits for the disk.
SAVE_EVERY_S = 1.0
# Below this many photos a share says little: one deleted photo of three is no lost disk.
SHARE_NEEDS_PHOTOS = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanReport:
    """What a scan found and read, in files, and what it did, in images; `left_out` counts files and folders by rule.

    `headers_read` counts photos of an older library of which date and camera were read.
    """

    found: int
    read: int
    identified: Identified
    other_files: dict[str, int]
    unreadable_folders: dict[str, str]
    left_out: dict[str, int] = field(default_factory=dict)
    headers_read: int = 0

    @property
    def unchanged(self) -> int:
        """Files that hold what they held before, whether or not they had to be read to know it."""
        did = self.identified
        return self.found - did.new - did.copied - did.moved - did.changed - did.returned


def preview_scan(registry: Registry, root: Path, walking: Walking = Walking()) -> tuple[Comparison, WalkReport]:
    """Say what a scan would find, reading no photo and changing nothing."""
    _check_root(root)
    report = WalkReport()
    files = walk_photos(root, report, walking, partial(identity.is_known, registry.connection))
    return identity.compare(registry.connection, files, report), report


def foresee_refusal(root: Path, comparison: Comparison, max_missing_share: float, moved: bool) -> str | None:
    """Say whether a scan would stop since photos are gone; files that were not read may be the same ones, moved."""
    if not _too_many(comparison.gone, comparison, max_missing_share):
        return None
    certain = comparison.found == comparison.unchanged
    outcome = "would be refused" if certain else "may be refused, unless they only moved"
    return f"{outcome}: {_vanished(root, comparison.gone, comparison, moved)}"


def scan_photos(
    registry: Registry,
    root: Path,
    pool: Executor,
    max_missing_share: float,
    decode_timeout_s: float,
    on_read: Callable[[int, int], None] = lambda done, total: None,
    on_moved: Callable[[], None] | None = None,
    walking: Walking = Walking(),
) -> ScanReport:
    """Find new, changed, moved, copied and missing photos below `root` and write that to the registry.

    What `walking` excludes leaves the library as if it were missing, and does not count as gone.

    Only files that are new or whose stat changed are read, in `pool`; `on_read(done, total)` hears of the progress.
    Where the photos moved to `root`, `on_moved` notes that. It is called when the scan is accepted, right before it is
    committed: killed in between, the next scan is again one of `root`, which finds what this one found.

    A file whose header ends its worker, or takes longer than `decode_timeout_s`, is a failed image, once and for all.

    Raises:
        PhotoRootError: `root` is not there.
        PhotosVanishedError: more than `max_missing_share` of the photos would be marked missing; nothing was written.
    """
    connection = registry.connection
    comparison, walked = preview_scan(registry, root, walking)
    if comparison.found == 0 and _too_many(comparison.gone, comparison, max_missing_share):
        raise _vanished(root, comparison.gone, comparison, on_moved is not None)
    identity.discard_stale_probes(connection)
    done = 0
    paths = identity.files_to_read(connection, FILES_PER_PROBE)
    known_failures = registry.decoder_failures() if comparison.to_read else {}
    probe = partial(
        probe_files,
        str(root),
        decode_timeout_s=decode_timeout_s,
        known_failures=known_failures,
        follow_links=walking.follow_links,
    )

    def blame(path: str, death: Exception) -> list[Probe]:
        error = decoder_failure(death, decode_timeout_s)
        return pool.submit(probe_failed, str(root), path, error.status, str(error), walking.follow_links).result()

    unsaved: list[Probe] = []
    saved_s = time.monotonic()
    try:
        for probes in map_batches(pool, probe, paths, in_flight=64, blame=blame):
            unsaved += probes
            if time.monotonic() - saved_s > SAVE_EVERY_S:
                identity.record_probes(connection, unsaved)
                unsaved, saved_s = [], time.monotonic()
            done += len(probes)
            on_read(done, comparison.to_read)
    finally:
        identity.record_probes(connection, unsaved)
    with registry.transaction():
        identified = identity.apply(connection, datetime.now(UTC).isoformat())
        if _too_many(identified.missing, comparison, max_missing_share):
            raise _vanished(root, identified.missing, comparison, on_moved is not None)
        if on_moved is not None:
            on_moved()
    headers_read = read_headers(registry, root, pool, decode_timeout_s, walking.follow_links, on_read)
    for folder, reason in walked.unreadable_folders.items():
        logger.warning("%s cannot be read (%s): its photos stay as they were", root / printable(folder), reason)
    return ScanReport(
        found=comparison.found,
        read=done,
        identified=identified,
        other_files=dict(walked.other_files),
        unreadable_folders=walked.unreadable_folders,
        left_out=dict(walked.left_out),
        headers_read=headers_read,
    )


def _check_root(root: Path) -> None:
    if not root.is_dir():
        raise PhotoRootError(
            f"{printable(str(root))} is no folder: mount it, or if the photos moved run "
            "`imgrec ingest NEW_FOLDER --photos-moved`"
        )


def _too_many(gone: int, comparison: Comparison, max_missing_share: float) -> bool:
    if comparison.found == 0:
        return gone > 0 and max_missing_share < 1
    return comparison.present >= SHARE_NEEDS_PHOTOS and gone / comparison.present > max_missing_share


def _vanished(root: Path, gone: int, comparison: Comparison, moved: bool) -> PhotosVanishedError:
    what, where = f"{gone:,} of {comparison.present:,} photos are", printable(str(root))
    if moved:
        what += f" not below {where}: name the folder that they moved to"
    else:
        what += f" gone from {where}: if a disk is missing, mount it"
    return PhotosVanishedError(f"{what}; if they were deleted, run again with --accept-missing")
