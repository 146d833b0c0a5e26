"""What learned embedders reach on a CUDA GPU, as one JSON object; docs/gpu.md says what it is for.

    python -m benchmarks.gpu                    all of it, some three minutes on a large GPU
    python -m benchmarks.gpu --device cpu --quick

It runs from a copy of the tree, with the torch that the machine has: weights and pictures are made here, nothing is
fetched. What a model's library is missing for is named in `left_out`, and the others are measured. Without a GPU it
says so and exits 0.

forward_per_s   images/s of nothing but forward passes, the pictures on the GPU already.
embedding_per_s images/s of the embedding stage: read, decode, prepare, send, forward, shards; all cores decode.
share           the latter of the former: 1 where decoding is hidden behind the GPU's work.
cosine          the least cosine between a picture's vector here and in float32 on this machine's CPU.
alike           the largest between vectors of two different pictures there, without which a cosine says little.
out_of_memory   the embedding stage in a GPU of which it may use too little: how it halved, and its least cosine.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.gpu_models import MODELS
from imgrec.embedders.base import LearnedEmbedder, Vectors
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.devices import PRECISIONS
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.chunk import Chunk
from imgrec.embedders.work.worker import embed_chunk
from imgrec.storage.machine.pool import WorkerPool, available_cpus
from imgrec.storage.photos.pending import Pending
from imgrec.storage.photos.probe import probe_files
from imgrec.storage.photos.roots import one_root
from imgrec.storage.shards import read_shard

WIDTH, HEIGHT = 640, 480
SETTINGS = {"decode_min_side": 448, "icc_profiles": "srgb", "cpu_runtime": "torch"}
COMPARED = 16
# The model that is to run out of memory.
STARVED = "ViT-B-32"


@dataclass(frozen=True)
class Bench:
    """A folder with photos and models, the processes that decode, and where models run."""

    home: Path
    pool: WorkerPool
    pending: tuple[Pending, ...]
    device: str
    batch: int

    @property
    def machine(self) -> Machine:
        return Machine(self.home / "models", self.device, self.batch)

    def embed(self, embedder: LearnedEmbedder, settings: dict[str, Any], count: int | None = None) -> Vectors:
        """Embed the first photos as an ingest does; rows (count, dim) in their order."""
        pending = self.pending[:count]
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            chunk = Chunk(
                images_roots={"": str(self.home / "photos")},
                shards_dir=f"{folder}/shards",
                models_dir=f"{folder}/models",
                fingerprints={embedder.spec.name: embedder.spec.fingerprint},
                vector_settings=settings,
                max_megapixels=256,
                decode_timeout_s=60,
                pending=pending,
            )
            outcome = embed_chunk(chunk.write(Path(folder)), self.pool, 2 * self.pool.workers, self.machine)
            shard = read_shard(outcome.shards[0])
        rows = dict(zip(shard.content_hashes, shard.vectors, strict=True))
        return np.stack([rows[entry.content_hash] for entry in pending])


def measure(bench: Bench, modality: str, settings: dict[str, Any]) -> dict[str, Any]:
    """One model in each precision, against itself on the CPU."""
    on_cpu = _forward(bench, modality, {**settings, "precision": "float32"}, "cpu")
    cosines = on_cpu @ on_cpu.T
    found: dict[str, Any] = {"alike": round(float(np.max(cosines - 2 * np.eye(len(cosines)))), 6)}
    for precision in PRECISIONS:
        chosen = {**settings, "precision": precision}
        embedder = _create(modality, chosen)
        bench.embed(embedder, chosen, bench.batch)  # the first kernels are looked for, and the workers import
        started = time.perf_counter()
        rows = bench.embed(embedder, chosen)
        embedding = len(rows) / (time.perf_counter() - started)
        forward = _forward_per_s(bench, embedder)
        found[precision] = {
            "forward_per_s": round(forward, 1), "embedding_per_s": round(embedding, 1),
            "share": round(embedding / forward, 3), "cosine": least_cosine(rows, on_cpu),
        }  # fmt: skip
    return found


def starve(bench: Bench, modality: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The embedding stage where a batch does not fit: it is to halve it, say so, and make the same vectors."""
    chosen = {**settings, "precision": "float32"}
    expected = _forward(bench, modality, chosen, "cpu")
    embedder = _create(modality, chosen)
    with _little_memory(bench, embedder), _hearing("imgrec.embedders.work.forward") as said:
        rows = bench.embed(embedder, chosen)
    return {"said": said, "images": len(rows), "cosine": least_cosine(rows, expected)}


def least_cosine(rows: Vectors, expected: Vectors) -> float:
    """The least cosine between rows, of which there may be more, and those expected, all of norm 1."""
    return round(float(np.einsum("nd,nd->n", rows[: len(expected)], expected).min()), 7)


def write_photos(folder: Path, count: int) -> None:
    """Write JPEGs of smooth random colours, the same each time; no package with pictures need be there."""
    folder.mkdir()

    def write(number: int) -> None:
        colours = np.random.default_rng(number).integers(0, 256, (15, 20, 3), np.uint8)
        Image.fromarray(colours).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(
            folder / f"{number:05}.jpg", quality=90
        )

    with ThreadPoolExecutor(available_cpus()) as threads:
        list(threads.map(write, range(count)))


def list_photos(folder: Path) -> tuple[Pending, ...]:
    """What a scan would find there."""
    probes = probe_files(one_root(str(folder)), sorted(path.name for path in folder.iterdir()), 60)
    return tuple(Pending(probe.content_hash or b"", *probe.file) for probe in probes)


def _create(modality: str, settings: dict[str, Any]) -> LearnedEmbedder:
    embedder = create_embedder(modality, settings)
    assert isinstance(embedder, LearnedEmbedder)
    return embedder


def _forward(bench: Bench, modality: str, settings: dict[str, Any], device: str) -> Vectors:
    """Rows of the first photos, without anything of the embedding stage."""
    embedder = _create(modality, settings)
    embedder.load(Machine(bench.home / "models", device, bench.batch))
    return embedder.forward(embedder.send(_prepared(bench, embedder, COMPARED)))


def _forward_per_s(bench: Bench, embedder: LearnedEmbedder) -> float:
    embedder.load(bench.machine)
    few = _prepared(bench, embedder, COMPARED)
    batch = embedder.send(np.concatenate([few] * -(-bench.batch // len(few)))[: bench.batch])
    embedder.forward(batch)
    passes = max(2, len(bench.pending) // bench.batch)
    started = time.perf_counter()
    for _ in range(passes):
        embedder.forward(batch)  # returns when the rows are there
    return passes * bench.batch / (time.perf_counter() - started)


def _prepared(bench: Bench, embedder: LearnedEmbedder, count: int) -> Any:
    paths = [bench.home / "photos" / entry.path for entry in bench.pending[:count]]
    return np.stack([embedder.prepare(np.asarray(Image.open(path).convert("RGB"))) for path in paths])


@contextmanager
def _little_memory(bench: Bench, embedder: LearnedEmbedder) -> Iterator[None]:
    """Let torch have no more of the GPU's memory than a quarter of a batch takes."""
    import torch

    embedder.load(bench.machine)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    few = _prepared(bench, embedder, COMPARED)
    embedder.forward(embedder.send(np.concatenate([few] * -(-bench.batch // 4 // len(few)))))
    total = torch.cuda.get_device_properties(bench.device).total_memory
    torch.cuda.set_per_process_memory_fraction(torch.cuda.max_memory_reserved() / total)
    torch.cuda.empty_cache()
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def _hearing(logger: str) -> Iterator[list[str]]:
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger(logger).addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger(logger).removeHandler(handler)


def run(device: str, quick: bool, models: dict[str, Callable[[Path], tuple[str, dict[str, Any]]]]) -> dict[str, Any]:
    """Measure all models on a device."""
    count, batch = (64, 16) if quick else (2_048, 256)
    found: dict[str, Any] = {"models": {}, "left_out": {}}
    with (
        tempfile.TemporaryDirectory() as folder,
        WorkerPool(available_cpus(), ["imgrec.embedders.work.worker"]) as pool,
    ):
        home = Path(folder)
        write_photos(home / "photos", count)
        bench = Bench(home, pool, list_photos(home / "photos"), device, batch)
        for name, make in models.items():
            print(f"{name} …", file=sys.stderr, flush=True)
            try:
                modality, more = make(home / "models")
            except ImportError as error:
                found["left_out"][name] = str(error)
                continue
            found["models"][name] = measure(bench, modality, {**SETTINGS, **more})
            if name == STARVED and device.startswith("cuda"):
                found["out_of_memory"] = starve(bench, modality, {**SETTINGS, **more})
    return {**found, "images": count, "batch": batch, "size": [WIDTH, HEIGHT], "workers": pool.workers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu, to see that it runs")
    parser.add_argument("--quick", action="store_true", help="64 images in batches of 16")
    given = parser.parse_args()
    started = time.perf_counter()
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"benchmark": "gpu", "skipped": f"torch is not there ({error})"}))
        return
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        print(json.dumps({"benchmark": "gpu", "skipped": f"torch {torch.__version__} sees no CUDA GPU here"}))
        return
    card = torch.cuda.get_device_name(given.device) if given.device.startswith("cuda") else given.device
    found = run(given.device, given.quick, MODELS)
    about = {"benchmark": "gpu", "card": card, "torch": torch.__version__, "cores": os.cpu_count()}
    print(json.dumps({**about, **found, "seconds": round(time.perf_counter() - started)}))


if __name__ == "__main__":
    main()
