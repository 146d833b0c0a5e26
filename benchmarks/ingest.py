"""How fast photos are taken in: 500 distinct JPEGs of 12 megapixels (100 with --quick), kept in .bench/photos-12mp.

colour_vs_bare          images/s of an ingest of colour against the bare work: read, draft decode, histogram.
colour_vs_full_decode   the same images/s against full-size decoding, the same histogram, and one row and one SQLite
                        commit an image.
sift_vs_bare            images/s of an ingest of sift against read, draft decode, resize, OpenCV's detectAndCompute with
                        the same parameters; no VLAD.
both_vs_seeds           images/s of an ingest of colour and sift together, against one pass for each modality: full-size
                        decoding, the same vector, one row and one commit an image.

An ingest is a whole `imgrec ingest` into a new library. Counted are its stages `scan` (walk, start of the worker
processes, reading and hashing, registry rows) and `embed` (reading, decoding, vectors, shards, BLOB mirror), with
the Prefect tasks that they consist of. Not counted are the start of Python and of the flow, and the index, whose
seconds stand in the table. All sides have as many processes, take turns, and find the files in the page cache.
"""

import json
import multiprocessing
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from PIL import Image, ImageOps

from benchmarks.harness import BENCH, DEFAULTS, Metric, call_fresh, imgrec, report, scratch, wants_quick
from benchmarks.pictures import real_pictures
from imgrec.embedders.base import Pixels
from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.modalities.sift import describe
from imgrec.storage.machine.pool import available_cpus

PHOTOS = BENCH / "photos-12mp"
SOME, ALL = 100, 500
WIDTH, HEIGHT = 4032, 3024
EMBEDDERS = create_embedders(("color", "sift"), DEFAULTS.vector_settings(), None)


def large_photos(quick: bool) -> Path:
    """A folder of photos, in folders of 100 or one of these; what an earlier run left is not written again."""
    numbers = [number for number in range(SOME if quick else ALL) if not _photo(number).exists()]
    if numbers:
        with multiprocessing.get_context("spawn").Pool(available_cpus()) as pool:
            pool.map(_write_photo, numbers, chunksize=4)
        os.sync()  # or the first commits to SQLite wait for it
    return _photo(0).parent if quick else PHOTOS


def _photo(number: int) -> Path:
    return PHOTOS / f"{number // SOME:02d}" / f"photo-{number:04d}.jpg"


def _write_photo(number: int) -> None:
    """Enlarge a random crop of a real picture, and give it the fine detail and noise of a camera."""
    random = np.random.default_rng(number)
    pictures = real_pictures()
    base = _crop(Image.open(pictures[number % len(pictures)]).convert("RGB"), random)
    other = Image.open(pictures[int(random.integers(len(pictures)))]).convert("L")
    tiles = np.asarray(other, np.float32) - np.asarray(other, np.float32).mean()
    repeats = (-(-HEIGHT // tiles.shape[0]), -(-WIDTH // tiles.shape[1]))
    detail = np.tile(tiles, repeats)[:HEIGHT, :WIDTH, np.newaxis] * 0.3
    noise = np.tile(random.standard_normal((HEIGHT // 4, WIDTH // 4, 3), np.float32) * 5, (4, 4, 1))
    pixels = np.clip(np.asarray(base, np.float32) + detail + noise, 0, 255).astype(np.uint8)
    path = _photo(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(pixels).save(temporary, "JPEG", quality=90)
    temporary.rename(path)


def _crop(picture: Image.Image, random: np.random.Generator) -> Image.Image:
    share = random.uniform(0.5, 1.0)
    width, height = int(picture.width * share), int(picture.height * share)
    left, top = int(random.integers(picture.width - width + 1)), int(random.integers(picture.height - height + 1))
    large = picture.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return ImageOps.mirror(large) if random.random() < 0.5 else large


def ingest(photos: Path, count: int, modalities: Sequence[str]) -> dict[str, float]:
    """Seconds by stage of an ingest into a new library."""
    asked = [word for name in modalities for word in ("--modality", name)]
    with scratch("ingest") as folder:
        done = json.loads(imgrec("ingest", photos, "--library", folder / "library", *asked, "--json").splitlines()[-1])
    if done["embedded"] != count:
        raise RuntimeError(f"{done['embedded']} of {count} photos were embedded: {done['failures']}")
    return dict(done["seconds"])


def draft(path: str) -> Pixels:
    """Read and decode as the worker does."""
    with Image.open(path) as image:
        image.draft("RGB", (DEFAULTS.decode_min_side, DEFAULTS.decode_min_side))
        return np.asarray(image.convert("RGB"))


def color_bare(path: str) -> None:
    """What no ingest of colour can leave out."""
    EMBEDDERS["color"].embed([draft(path)])


def sift_bare(path: str) -> None:
    """What no ingest of sift can leave out; `describe` is resize, detectAndCompute and a square root."""
    describe(draft(path))


def store_full(database: str, modality: str, path: str) -> None:
    """What a first script does, once for each modality."""
    with Image.open(path) as image:
        vector = EMBEDDERS[modality].embed([np.asarray(image.convert("RGB"))])[0]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("INSERT INTO vectors VALUES (?, ?, ?)", (path, modality, vector.tobytes()))


def time_bare(function: str, paths: Sequence[str]) -> float:
    """Images/s of `color_bare` or `sift_bare`."""
    return _images_per_s(globals()[function], paths)


def time_full(modalities: Sequence[str], paths: Sequence[str]) -> float:
    """Images/s of one pass a modality."""
    with scratch("full") as folder:
        database = str(folder / "vectors.sqlite")
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE vectors (path TEXT, modality TEXT, vector BLOB)")
        speeds = [_images_per_s(partial(store_full, database, modality), paths) for modality in modalities]
    return 1 / sum(1 / speed for speed in speeds)


def _images_per_s(function: Callable[[str], None], paths: Sequence[str]) -> float:
    cv2.setNumThreads(1)  # one process a core already, as in an ingest
    started = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(available_cpus()) as pool:
        for _ in pool.imap_unordered(function, paths, chunksize=1):
            pass
        return len(paths) / (time.perf_counter() - started)


def main() -> None:
    quick = wants_quick(__doc__)
    count, rounds, full_every = (SOME, 1, 3) if quick else (ALL, 3, 5)
    photos = large_photos(quick)
    paths = sorted(map(str, photos.rglob("*.jpg")))
    for path in paths:
        Path(path).read_bytes()
    some = paths[::full_every]
    asked = {"colour": ["color"], "sift": ["sift"], "both": ["color", "sift"]}
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
    sides: dict[str, list[float]] = {name: [] for name in ("colour_bare", "colour_full", "sift_bare", "both_full")}
    for _ in range(rounds):
        stages["colour"].append(ingest(photos, count, asked["colour"]))
        sides["colour_bare"].append(call_fresh(time_bare, "color_bare", paths))
        sides["colour_full"].append(call_fresh(time_full, asked["colour"], some))
        stages["sift"].append(ingest(photos, count, asked["sift"]))
        sides["sift_bare"].append(call_fresh(time_bare, "sift_bare", paths))
        stages["both"].append(ingest(photos, count, asked["both"]))
        sides["both_full"].append(call_fresh(time_full, asked["both"], some))
    ours = {name: median(count / (run["scan"] + run["embed"]) for run in runs) for name, runs in stages.items()}
    theirs = {name: median(speeds) for name, speeds in sides.items()}
    seconds = {stage: median(run[stage] for run in stages["colour"]) for stage in ("scan", "embed", "index")}
    report(
        "ingest",
        {
            "colour_vs_bare": Metric(ours["colour"] / theirs["colour_bare"], 0.85, at_least=True),
            "colour_vs_full_decode": Metric(ours["colour"] / theirs["colour_full"], 3, at_least=True),
            "sift_vs_bare": Metric(ours["sift"] / theirs["sift_bare"], 0.9, at_least=True),
            "both_vs_seeds": Metric(ours["both"] / theirs["both_full"], 1.5, at_least=True),
        },
        {
            "photos": f"{count}, {sum(Path(path).stat().st_size for path in paths) / count / 1e6:.1f} MB each",
            **{f"ingest of {name}, scan and embed": f"{speed:.1f} images/s" for name, speed in ours.items()},
            **{name.replace("_", ", "): f"{speed:.1f} images/s" for name, speed in theirs.items()},
            "stages of colour": ", ".join(f"{stage} {spent:.2f} s" for stage, spent in seconds.items()),
        },
    )


if __name__ == "__main__":
    main()
