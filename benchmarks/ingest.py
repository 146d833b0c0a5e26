"""How fast photos are taken in: 500 distinct JPEGs of 12 megapixels (100 with --quick), kept in .bench/photos-12mp.

colour_vs_bare          images/s of an ingest against the bare work: read, decode at the same draft scale, histogram.
colour_vs_full_decode   the same images/s against full-size decoding, the same histogram, and one row and one SQLite
                        commit an image.

An ingest is a whole `imgrec ingest` into a new library. Counted are its stages `scan` (walk, start of the worker
processes, reading and hashing, registry rows) and `embed` (reading, decoding, histograms, shards, BLOB mirror), with
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
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmarks.harness import BENCH, DEFAULTS, Metric, call_fresh, imgrec, report, scratch, wants_quick
from benchmarks.pictures import real_pictures
from embedders.color import ColorEmbedder
from storage.pool import available_cpus

PHOTOS = BENCH / "photos-12mp"
SOME, ALL = 100, 500
WIDTH, HEIGHT = 4032, 3024
EMBEDDER = ColorEmbedder.from_settings(DEFAULTS.vector_settings())


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


def ingest(photos: Path, count: int) -> dict[str, float]:
    """Seconds by stage of an ingest into a new library."""
    with scratch("ingest") as folder:
        done = json.loads(imgrec("ingest", photos, "--library", folder / "library", "--json").splitlines()[-1])
    if done["embedded"] != count:
        raise RuntimeError(f"{done['embedded']} of {count} photos were embedded: {done['failures']}")
    return dict(done["seconds"])


def embed_bare(path: str) -> None:
    """What no ingest can leave out."""
    with Image.open(path) as image:
        image.draft("RGB", (DEFAULTS.decode_min_side, DEFAULTS.decode_min_side))
        EMBEDDER.embed([np.asarray(image.convert("RGB"))])


def embed_full(database: str, path: str) -> None:
    """What a first script does."""
    with Image.open(path) as image:
        vector: NDArray[np.float32] = EMBEDDER.embed([np.asarray(image.convert("RGB"))])[0]
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.execute("INSERT INTO vectors VALUES (?, ?)", (path, vector.tobytes()))


def time_bare(paths: Sequence[str]) -> float:
    """Images/s."""
    return _images_per_s(embed_bare, paths)


def time_full(paths: Sequence[str]) -> float:
    """Images/s."""
    with scratch("full") as folder:
        database = str(folder / "vectors.sqlite")
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE vectors (path TEXT PRIMARY KEY, vector BLOB)")
        return _images_per_s(partial(embed_full, database), paths)


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
    measured = [
        (ingest(photos, count), call_fresh(time_bare, paths), call_fresh(time_full, paths[::full_every]))
        for _ in range(rounds)
    ]
    stages, bare_speeds, full_speeds = zip(*measured, strict=True)
    scan_s, embed_s, index_s = (median(seconds[stage] for seconds in stages) for stage in ("scan", "embed", "index"))
    ours = median(count / (seconds["scan"] + seconds["embed"]) for seconds in stages)
    bare, full = median(bare_speeds), median(full_speeds)
    report(
        "ingest",
        {
            "colour_vs_bare": Metric(ours / bare, 0.85, at_least=True),
            "colour_vs_full_decode": Metric(ours / full, 3, at_least=True),
        },
        {
            "photos": f"{count}, {sum(Path(path).stat().st_size for path in paths) / count / 1e6:.1f} MB each",
            "ingest, scan and embed": f"{ours:.1f} images/s",
            "bare": f"{bare:.1f} images/s",
            "full decode": f"{full:.1f} images/s",
            "stages": f"scan {scan_s:.2f} s, embed {embed_s:.2f} s, index {index_s:.2f} s",
        },
    )


if __name__ == "__main__":
    main()
