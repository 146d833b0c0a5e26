"""How soon `imgrec watch` has a photo in the index: a library of 50,000 photos in colour (5,000 with --quick).

seconds  from the moment at which a new photo is closed to that at which a search finds it, median of nine. The search
         is a library call with the picture itself, asked again and again by a process that has the library open.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks.harness import Metric, clean_environment, imgrec, report, scratch, wants_quick, write_tiny_photos
from imgrec.search import Searcher

ROUNDS = 9
GIVEN_UP_S = 60
REST_S = 3


def found_after(searcher: Searcher, photo: Path, picture: bytes) -> float:
    """Write a photo; return how many seconds later a search finds it."""
    photo.write_bytes(picture)
    closed = time.perf_counter()
    while (seconds := time.perf_counter() - closed) < GIVEN_UP_S:
        (answer,) = searcher.search([picture], 1)
        if answer.hits[0].path == photo.name:
            return seconds
        time.sleep(0.02)
    raise TimeoutError(f"{photo} was not found in {GIVEN_UP_S} s")


def make_picture(number: int) -> bytes:
    """A picture that is like no other of the library."""
    noise = np.random.default_rng(number + 1_000_000).integers(0, 256, (4, 4, 3), np.uint8)
    encoded: bytes = cv2.imencode(".png", np.kron(noise, np.ones((40, 40, 1), np.uint8)))[1].tobytes()
    return encoded


def main() -> None:
    count = 5_000 if wants_quick(__doc__) else 50_000
    with scratch("watch") as folder:
        photos, library = folder / "photos", folder / "library"
        write_tiny_photos(photos, count)
        imgrec("ingest", photos, "--library", library, "--modality", "color")
        command = [
            str(Path(sys.executable).with_name("imgrec")),
            "watch",
            str(photos),
            "--library",
            str(library),
            "--json",
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=clean_environment(), text=True) as watching:
            try:
                assert watching.stdout is not None
                watching.stdout.readline()  # it has looked once
                time.sleep(REST_S)
                with Searcher(library) as searcher:
                    taken = []
                    for number in range(ROUNDS):
                        taken.append(found_after(searcher, photos / f"new-{number}.png", make_picture(number)))
                        time.sleep(REST_S)
            finally:
                watching.send_signal(signal.SIGTERM)
    details = {"photos": f"{count:,}", "each": ", ".join(f"{seconds:.2f}" for seconds in taken)}
    report("watch", {"seconds": Metric(median(taken), 2)}, details)


if __name__ == "__main__":
    main()
