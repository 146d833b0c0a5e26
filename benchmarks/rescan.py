"""What an ingest costs when nothing or little is new, for a library of 50,000 photos (5,000 with --quick).

vs_bare_walk             the scan stage (`scan_photos` on a newly opened registry: walk, comparison, apply) against a
                         walk of the same tree with scandir and stat and nothing else. In turn, medians.
noop_s                   seconds of a whole `imgrec ingest` that finds nothing to do.
noop_extra_s             the same beyond a whole process with an empty Prefect flow: same Prefect home, warm database.
add_three_s              seconds of a whole `imgrec ingest` that finds three new photos (color, sift, efficientnet).
add_three_with_server_s  the same with a Prefect server running.

The 50,000 vectors of each modality are made, not computed; the photos that are added are real.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count as numbers
from pathlib import Path
from statistics import median

from benchmarks.harness import (
    AN_HOUR_NS,
    Metric,
    clean_environment,
    imgrec,
    make_vectors,
    report,
    run,
    scratch,
    timed,
    wants_quick,
    write_tiny_photos,
)
from benchmarks.pictures import real_pictures
from imgrec.storage.library import open_library
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.roots import one_root
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import scan_photos

EMPTY_FLOW = """
from imgrec.conf.environment import prepare_environment
prepare_environment()
from prefect import flow
flow(lambda: None, name="empty")()
"""
MODALITIES = ("color", "sift", "efficientnet")
SERVER_WITHIN_S = 120


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
    """Scan as the step does; the pool is never started, since no file has to be read."""
    with Registry.open_for_writing(library / "registry.sqlite") as registry:
        scanned = scan_photos(registry, one_root(photos), WorkerPool(1), 0.5, decode_timeout_s=60)
    if scanned.unchanged != count:
        raise RuntimeError(f"{count - scanned.unchanged} of {count} photos were not recognised as unchanged")


def make_library(photos: Path, library: Path) -> None:
    """Scan the photos, make up their vectors, and let an ingest build the indexes."""
    names = [part for name in MODALITIES for part in ("--modality", name)]
    imgrec("scan", photos, "--library", library, variables={"IMGREC_MODALITIES": ",".join(MODALITIES)})
    with Registry.open_for_writing(library / "registry.sqlite") as registry:
        rows = registry.connection.execute("SELECT DISTINCT content_hash FROM images ORDER BY id").fetchall()
        make_vectors(open_library(library), registry, [row[0] for row in rows])
    imgrec("ingest", "--library", library, *names)


class NewPhotos:
    """Adds three photos to a folder, others each time, as old as all the rest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._round = numbers()

    def add(self) -> None:
        number, then = next(self._round), time.time_ns() - AN_HOUR_NS
        for picture in real_pictures()[:3]:
            added = self._folder / f"new-{number}-{picture.name}"
            shutil.copyfile(picture, added)
            with added.open("ab") as file:  # behind the picture's end: other content, same pixels
                file.write(str(number).encode())
            os.utime(added, ns=(then, then))


@contextmanager
def prefect_server() -> Iterator[dict[str, str]]:
    """Run a Prefect server; yield the variables that name it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    command = [str(Path(sys.executable).parent / "prefect"), "server", "start", "--port", port]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=clean_environment(), stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/api/health")
            yield {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    for _ in range(SERVER_WITHIN_S):
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=1).close()
            return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"{url} does not answer")


def main() -> None:
    quick = wants_quick(__doc__)
    count, walks, rounds = (5_000, 5, 2) if quick else (50_000, 11, 5)
    with scratch("rescan") as folder:
        photos, library = folder / "photos", folder / "library"
        write_tiny_photos(photos, count)
        make_library(photos, library)
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
            for _ in range(rounds)
        ]
        noop_s, empty_s = (median(times) for times in zip(*pairs, strict=True))
        new = NewPhotos(photos)

        def add_three(variables: dict[str, str] | None = None) -> float:
            new.add()
            return timed(lambda: imgrec("ingest", "--library", library, variables=variables))

        alone_s = median(add_three() for _ in range(rounds))
        with prefect_server() as variables:
            add_three(variables)  # the server's own first run
            served_s = median(add_three(variables) for _ in range(rounds))
    report(
        "rescan",
        {
            "vs_bare_walk": Metric(scan_s / walk_s, 4),
            "noop_s": Metric(noop_s, 1.5),
            "noop_extra_s": Metric(noop_s - empty_s, 3),
            "add_three_s": Metric(alone_s, 12),
            "add_three_with_server_s": Metric(served_s, 6),
        },
        {
            "photos": f"{count:,}",
            "scan stage": f"{scan_s * 1e3:,.0f} ms",
            "bare walk": f"{walk_s * 1e3:,.0f} ms",
            "empty Prefect flow": f"{empty_s:.2f} s",
        },
    )


if __name__ == "__main__":
    main()
