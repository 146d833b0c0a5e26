"""What thumbnails cost, on the real pictures and their near-copies.

ingest_ratio      CPU seconds of an ingest of the cheapest modality, color, with thumbnails, in those without:
                  medians of interleaved rounds. With models a photo costs the same milliseconds more.
decode_share      milliseconds of a thumbnail in those of decoding its picture, a JPEG of 12 megapixels.
bytes_64          bytes of a thumbnail in its pack, all included.
get_400_ms        milliseconds to fetch 400 thumbnails by content hash at random out of 100,000 (20,000 with --quick).
"""

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
from PIL import Image

from benchmarks.harness import Metric, report, scratch, timed, wants_quick
from benchmarks.pictures import real_pictures, write_pictures
from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import closing, ingesting
from imgrec.storage.photos.decoding import decode
from imgrec.storage.thumbnails.packs import Pack
from imgrec.storage.thumbnails.store import ThumbnailStore, pack_paths
from imgrec.storage.thumbnails.webp import thumbnail_of
from imgrec.tasks.calls import PlainCalls

_ENCODED = 20


class InThisProcess(ThreadPoolExecutor):
    """Workers as one thread, so that the CPU seconds of this process are all that there are."""

    workers = 1

    def __init__(self, *_: object, **__: object) -> None:
        super().__init__(1)


def ingest_cpu_s(photos: Path, library: Path, thumbnails: bool) -> float:
    """CPU seconds of an ingest."""
    chosen = Settings.load(
        images_root=photos, library=library, modalities=("color",), workers=1, recall_sample=0, thumbnails=thumbnails
    )
    started = time.process_time()
    with patch("imgrec.tasks.driver.WorkerPool", InThisProcess), patch.object(closing, "track", lambda *_: None):
        ingesting.ingest(chosen, PlainCalls(0))
    return time.process_time() - started


def large_photo() -> bytes:
    """A JPEG of 12 megapixels: a real picture, enlarged."""
    encoded = io.BytesIO()
    with Image.open(real_pictures()[-2]) as picture:
        picture.convert("RGB").resize((4032, 3024), Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def fill(folder: Path, count: int) -> list[bytes]:
    """Fill a store with thumbnails of the usual size; return their contents."""
    random, store = np.random.default_rng(0), ThumbnailStore(folder)
    contents = [random.bytes(32) for _ in range(count)]
    for start in range(0, count, 10_000):
        store.add({content: random.bytes(760) for content in contents[start : start + 10_000]})
    return contents


def main() -> None:
    quick = wants_quick(__doc__)
    rounds, many = (2, 20_000) if quick else (5, 100_000)
    with scratch("thumbnails") as folder:
        write_pictures(folder / "photos")
        ingest_cpu_s(folder / "photos", folder / "first", True)  # imports
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(rounds):
            for thumbnails in (False, True):
                library = folder / f"{number}-{thumbnails}"
                seconds[thumbnails].append(ingest_cpu_s(folder / "photos", library, thumbnails))
        (path,) = pack_paths(folder / "0-True" / "thumbnails")
        pack = Pack(path)
        photo = large_photo()
        pixels = decode(photo, 448, 256)
        decode_s = median(timed(lambda: decode(photo, 448, 256)) for _ in range(_ENCODED))
        encode_s = median(timed(lambda: thumbnail_of(pixels)) for _ in range(_ENCODED))
        contents = fill(folder / "packs", many)
        store = ThumbnailStore(folder / "packs")
        store.packs()
        random = np.random.default_rng(1)
        draws = [[contents[at] for at in random.choice(many, 400, replace=False)] for _ in range(20)]
        get_s = median(timed(lambda draw=draw: store.get_many(draw)) for draw in draws)  # type: ignore[misc]
    metrics = {
        "ingest_ratio": Metric(median(seconds[True]) / median(seconds[False])),
        "decode_share": Metric(encode_s / decode_s),
        "bytes_64": Metric(pack.bytes / pack.count),
        "get_400_ms": Metric(get_s * 1e3),
    }
    details = {
        "ingest without, with": " ".join(f"{median(some):.2f} s of CPU" for some in seconds.values()),
        "decoding, thumbnail": f"{decode_s * 1e3:.1f} ms, {encode_s * 1e3:.2f} ms",
    }
    report("thumbnails", metrics, details)


if __name__ == "__main__":
    main()
