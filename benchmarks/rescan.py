"""What an ingest costs when there is nothing to do, for a library of 50,000 photos (5,000 with --quick).

vs_bare_walk    the scan stage (`scan_photos` on a newly opened registry: walk, comparison, apply) against a walk of
                the same tree with scandir and stat and nothing else. In turn, medians.
noop_extra_s    seconds of a whole `imgrec ingest` beyond those of a whole process with an empty Prefect flow: same
                Prefect home, warm database. In turn, medians.
"""

import os
import sys
from pathlib import Path
from statistics import median

from benchmarks.harness import Metric, imgrec, report, run, scratch, timed, wants_quick, write_tiny_photos
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import scan_photos

EMPTY_FLOW = """
from imgrec.conf.environment import prepare_environment
prepare_environment()
from prefect import flow
flow(lambda: None, name="empty")()
"""


def walk_bare(root: str) -> int:
    """Stat every file below `root`."""
    files, folders = 0, [root]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    entry.stat(follow_symlinks=False)
                    files += 1
    return files


def scan_unchanged(library: Path, photos: Path, count: int) -> None:
    """Scan as the task does; the pool is never started, since no file has to be read."""
    with Registry.open_for_writing(library / "registry.sqlite") as registry:
        scanned = scan_photos(registry, photos, WorkerPool(1), 0.5, decode_timeout_s=60)
    if scanned.unchanged != count:
        raise RuntimeError(f"{count - scanned.unchanged} of {count} photos were not recognised as unchanged")


def main() -> None:
    quick = wants_quick(__doc__)
    count, walks, flows = (5_000, 5, 2) if quick else (50_000, 11, 5)
    with scratch("rescan") as folder:
        photos, library = folder / "photos", folder / "library"
        write_tiny_photos(photos, count)
        imgrec("ingest", photos, "--library", library, "--modality", "color")
        pairs = [
            (timed(lambda: scan_unchanged(library, photos, count)), timed(lambda: walk_bare(str(photos))))
            for _ in range(walks)
        ]
        scan_s, walk_s = (median(times) for times in zip(*pairs, strict=True))
        pairs = [
            (
                timed(lambda: imgrec("ingest", "--library", library)),
                timed(lambda: run(sys.executable, "-c", EMPTY_FLOW)),
            )
            for _ in range(flows)
        ]
        ingest_s, empty_s = (median(times) for times in zip(*pairs, strict=True))
    report(
        "rescan",
        {"vs_bare_walk": Metric(scan_s / walk_s, 4), "noop_extra_s": Metric(ingest_s - empty_s, 3)},
        {
            "photos": f"{count:,}",
            "scan stage": f"{scan_s * 1e3:,.0f} ms",
            "bare walk": f"{walk_s * 1e3:,.0f} ms",
            "imgrec ingest, nothing to do": f"{ingest_s:.2f} s",
            "empty Prefect flow": f"{empty_s:.2f} s",
        },
    )


if __name__ == "__main__":
    main()
