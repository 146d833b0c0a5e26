"""How fast learned embedders take images, and in what memory.

efficientnet_vs_bare    images/s of the worker (read, decode, prepare, forward, shard) on 640×480 JPEGs, against nothing
                        but forward passes of the same images, prepared and in memory. Both have all cores; without a
                        GPU, decoding needs some of what the model would use.
efficientnet_vs_eager   the same images/s against the original package's module, as it is, in forward passes of 32.
one_pass                seconds of the embed stage of three ingests, one modality after another, against one ingest of
                        colour, sift and efficientnet; 12-MP JPEGs.
peak_mb                 largest resident size of the process that runs the model, and of one worker, at 12-MP JPEGs.
"""

import contextlib
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.harness import DEFAULTS, Metric, call_fresh, imgrec, peak_bytes, report, scratch, wants_quick
from benchmarks.ingest import large_photos
from benchmarks.pictures import real_pictures
from embedders.chunk import Chunk
from embedders.efficientnet import EfficientNetEmbedder, weights_path
from embedders.worker import embed_chunk
from storage.pending import Pending
from storage.pool import WorkerPool, available_cpus
from storage.probe import probe_files

MODALITIES = ("color", "sift", "efficientnet")
WIDTH, HEIGHT = 640, 480
BATCH = DEFAULTS.model_batch_size


def write_photos(folder: Path, count: int) -> None:
    """Write distinct crops of real pictures as JPEGs of 640×480."""
    folder.mkdir()
    random = np.random.default_rng(0)
    pictures = [Image.open(path).convert("RGB") for path in real_pictures()]
    for number in range(count):
        picture = pictures[number % len(pictures)]
        width, height = (int(side * random.uniform(0.5, 1)) for side in picture.size)
        left, top = int(random.integers(picture.width - width + 1)), int(random.integers(picture.height - height + 1))
        crop = picture.crop((left, top, left + width, top + height)).resize((WIDTH, HEIGHT))
        crop.save(folder / f"{number:04}.jpg", quality=90)


def time_worker(photos: str, home: str) -> dict[str, float]:
    """Embed a folder as an ingest does; images/s once model and processes are there, and peaks in MB."""
    few, all_of_them = (_write_chunk(Path(photos), Path(home) / str(count), count) for count in (8, None))
    with WorkerPool(available_cpus(), preload=["embedders.worker"]) as pool:
        embed_chunk(few, pool, 2 * pool.workers)
        started = time.perf_counter()
        embedded = embed_chunk(all_of_them, pool, 2 * pool.workers).embedded
        speed = embedded / (time.perf_counter() - started)
        return {"speed": speed, "peak_mb": peak_bytes() / 1e6, "worker_mb": pool.submit(peak_bytes).result() / 1e6}


def _write_chunk(photos: Path, home: Path, count: int | None) -> Path:
    settings = DEFAULTS.vector_settings()
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))[:count]
    probes = probe_files(str(photos), names, DEFAULTS.decode_timeout_s)
    chunk = Chunk(
        images_root=str(photos),
        shards_dir=str(home / "shards"),
        models_dir=str(home / "models"),
        fingerprints={"efficientnet": EfficientNetEmbedder.from_settings(settings).spec.fingerprint},
        vector_settings=settings,
        max_megapixels=DEFAULTS.max_megapixels,
        decode_timeout_s=DEFAULTS.decode_timeout_s,
        pending=tuple(Pending(probe.content_hash or b"", *probe.file) for probe in probes),
        model_batch_size=BATCH,
    )
    return chunk.write(home)


def time_bare(count: int) -> float:
    """Images/s of forward passes in the mode that ingests use."""
    embedder = EfficientNetEmbedder(DEFAULTS.decode_min_side)
    batch = embedder.send(_batch())
    embedder.forward(batch)
    return _images_per_s(lambda: embedder.forward(batch), count)


def time_eager(count: int) -> float:
    """Images/s of forward passes of the module as the package makes it."""
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded the weights
        model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(weights_path())).eval()
    inputs = (torch.from_numpy(_batch()).permute(0, 3, 1, 2).contiguous().float() - 127) / 128
    with torch.inference_mode():
        model.extract_features(inputs)
        return _images_per_s(lambda: model.extract_features(inputs).mean((2, 3)), count)


def _batch() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)


def _images_per_s(forward: Callable[[], object], count: int) -> float:
    passes = -(-count // BATCH)
    started = time.perf_counter()
    for _ in range(passes):
        forward()
    return passes * BATCH / (time.perf_counter() - started)


def embed_seconds(photos: Path, *modalities: str) -> float:
    """Seconds of the embed stage of one ingest of these modalities into a new library."""
    asked = [word for name in modalities for word in ("--modality", name)]
    with scratch("embed") as folder:
        printed = imgrec("ingest", photos, "--library", folder / "library", *asked, "--json")
    return float(json.loads(printed.splitlines()[-1])["seconds"]["embed"])


def main() -> None:
    quick = wants_quick(__doc__)
    count, rounds = (96, 1) if quick else (512, 3)
    large = large_photos(quick=True)
    with scratch("embed") as folder:
        write_photos(folder / "photos", count)
        workers, bare, eager = [], [], []
        for number in range(rounds):
            home = folder / f"round-{number}"
            workers.append(call_fresh(time_worker, folder / "photos", home)["speed"])
            bare.append(call_fresh(time_bare, count))
            eager.append(call_fresh(time_eager, count // 2))
        peaks = call_fresh(time_worker, large, folder / "large")
    passes = [
        (sum(embed_seconds(large, name) for name in MODALITIES), embed_seconds(large, *MODALITIES))
        for _ in range(rounds)
    ]
    apart, together = (median(seconds) for seconds in zip(*passes, strict=True))
    speed = median(workers)
    report(
        "embed",
        {
            "efficientnet_vs_bare": Metric(speed / median(bare), 0.9, at_least=True),
            "efficientnet_vs_eager": Metric(speed / median(eager), 3, at_least=True),
            "one_pass": Metric(median(one / other for one, other in passes), 1.3, at_least=True),
            "peak_mb": Metric(peaks["peak_mb"]),
        },
        {
            "photos": f"{count} of {WIDTH}×{HEIGHT}, 100 of 12 megapixels",
            "worker": f"{speed:.1f} images/s",
            "bare forward passes": f"{median(bare):.1f} images/s",
            "the package's own module": f"{median(eager):.1f} images/s",
            "one after another, together": f"{apart:.1f} s, {together:.1f} s",
            "peak of a worker process": f"{peaks['worker_mb']:.0f} MB",
        },
    )


if __name__ == "__main__":
    main()
