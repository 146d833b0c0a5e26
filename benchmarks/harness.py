"""What the benchmarks share: fresh processes, tiny photos, a library of vectors, and the report at the end."""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.pictures import real_pictures
from imgrec.conf.settings import Settings
from imgrec.embedders.base import Embedder
from imgrec.embedders.catalogue import create_embedders
from imgrec.search.fusion import default_indexes, index_members
from imgrec.search.indexes.layout import Member
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.storage.library import Library, create_library, open_library
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard

BENCH = Path(__file__).parent.parent / ".bench"
DEFAULTS = Settings.model_construct()
PARAMETERS = IndexParameters(
    DEFAULTS.hnsw_m, DEFAULTS.ef_construction, DEFAULTS.ef_search, DEFAULTS.index_batch_size, DEFAULTS.recall_sample
)
ROWS_PER_SHARD = 1_024
FILES_PER_FOLDER = 500
AN_HOUR_NS = 3_600 * 10**9

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Metric:
    """A measured value, and what it is to reach, if anything: at most `target`, or with `at_least` no less."""

    value: float
    target: float | None = None
    at_least: bool = False

    @property
    def aim(self) -> str:
        return "" if self.target is None else f"{'≥' if self.at_least else '≤'} {self.target:g}"

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        reached = self.value >= self.target if self.at_least else self.value <= self.target
        return "reached" if reached else "[red]missed[/red]"


def wants_quick(about: str | None) -> bool:
    """Read the command line, which has one flag."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer rounds: under a minute")
    return bool(parser.parse_args().quick)


def report(benchmark: str, metrics: dict[str, Metric], details: dict[str, str]) -> None:
    """Print a table for people, and the metrics as the one JSON object of the last line."""
    table = Table("metric", "value", "target", "", title=f"{benchmark} ({os.cpu_count()} CPUs, load {_load()})")
    for name, metric in metrics.items():
        table.add_row(name, f"{metric.value:.3g}", metric.aim, metric.verdict)
    table.add_section()
    for what, value in details.items():
        table.add_row(f"[dim]{what}[/dim]", f"[dim]{value}[/dim]")
    Console(highlight=False, width=110).print(table)
    results = {name: {"value": round(m.value, 4), "target": m.target} for name, m in metrics.items()}
    print(json.dumps({"benchmark": benchmark, "results": results}), flush=True)


def _load() -> str:
    """The machine's load over the last minute; above the number of CPUs, others are measured too."""
    return f"{os.getloadavg()[0]:.1f}"


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder on the same disk as everything else, gone at the end."""
    BENCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=BENCH) as folder:
        yield Path(folder)


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def clean_environment() -> dict[str, str]:
    """The environment without the user's settings of Prefect, MLflow and Image Recommender."""
    theirs = ("PREFECT_", "MLFLOW_", "IMGREC_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
    return {**kept, "PREFECT_HOME": str(BENCH / "prefect")}


def run(*command: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> str:
    """Run a command with a Prefect database of the benchmarks' own; return what it printed."""
    environment = {**clean_environment(), **(variables or {})}
    done = subprocess.run(command, env=environment, cwd=BENCH.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


def imgrec(*arguments: str | os.PathLike[str], variables: Mapping[str, str] | None = None) -> str:
    """Run the installed command, as a user does."""
    return run(Path(sys.executable).parent / "imgrec", *arguments, variables=variables)


def call_fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a benchmark's function in a new process; arguments and result travel as JSON."""
    main = sys.modules["__main__"].__spec__
    module = main.name if function.__module__ == "__main__" and main else function.__module__
    code = "from benchmarks.harness import serve_call; serve_call()"
    printed = run(sys.executable, "-c", code, module, function.__name__, json.dumps(arguments, default=str))
    return json.loads(printed.splitlines()[-1])


def serve_call() -> None:
    """The other end of `call_fresh`."""
    module, name, arguments = sys.argv[1:]
    print("\n" + json.dumps(getattr(import_module(module), name)(*json.loads(arguments))))


def peak_bytes() -> int:
    """This process' largest resident size since it was started (not since its fork, as ru_maxrss has it)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def write_tiny_photos(folder: Path, count: int) -> None:
    """Write `count` distinct 8×8 BMPs, 500 in a folder, an hour old: no scan has to read them twice."""
    then = time.time_ns() - AN_HOUR_NS
    random = np.random.default_rng(0)
    header = _bmp_header(8, 8)
    for number in range(count):
        path = folder / f"{number // FILES_PER_FOLDER:04d}" / f"photo-{number:06d}.bmp"
        if number % FILES_PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(header + random.bytes(8 * 8 * 3))
        os.utime(path, ns=(then, then))


def _bmp_header(width: int, height: int) -> bytes:
    encoded = cv2.imencode(".bmp", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    return encoded[: -width * height * 3]


def vector_library(count: int, *others: str) -> Library:
    """A library of `count` colour vectors, and of other modalities, without photos; the next benchmark finds it."""
    root, modalities = BENCH / "-".join(["vectors", *others, str(count)]), ("color", *others)
    embedders = create_embedders(modalities, DEFAULTS.vector_settings())
    made_by, complete = " ".join(embedder.spec.fingerprint for embedder in embedders.values()), root / "complete"
    if not complete.exists() or complete.read_text() != made_by:
        shutil.rmtree(root, ignore_errors=True)
        _fill_library(root, count, modalities)
        complete.write_text(made_by)
    return open_library(root)


def members_of(library: Library, index: str | None = None) -> tuple[Member, ...]:
    """What an index of the library consists of, by default the default one."""
    embedders = create_embedders(library.modalities, library.vector_settings, None)
    specs = {name: embedder.spec for name, embedder in embedders.items()}
    return index_members(index or default_indexes(library.modalities)[-1], specs)


def _fill_library(root: Path, count: int, modalities: tuple[str, ...]) -> None:
    library = create_library(root, root / "photos", modalities, DEFAULTS.vector_settings())
    with Registry.open_for_writing(library.registry_path) as registry:
        for number in range(0, count, ROWS_PER_SHARD):
            add_images(registry, range(number, min(number + ROWS_PER_SHARD, count)))
        make_vectors(library, registry, [hash_of_number(number) for number in range(count)])


def make_vectors(library: Library, registry: Registry, contents: Sequence[bytes]) -> None:
    """Give contents made vectors of every modality of the library, in shards and in the registry."""
    random = np.random.default_rng(0)
    for embedder in create_embedders(library.modalities, library.vector_settings, None).values():
        spec = embedder.spec
        registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
        seeds = _real_vectors(embedder, random)
        for start in range(0, len(contents), ROWS_PER_SHARD):
            hashes = tuple(contents[start : start + ROWS_PER_SHARD])
            vectors = (_mix if spec.name == "color" else _mix_signed)(seeds, len(hashes), random)
            path = shard_path(library.shards_dir, spec.name, spec.fingerprint, digest_of(spec.fingerprint, hashes))
            write_shard(path, Shard(spec.name, spec.fingerprint, hashes, vectors))
            mirror_shards(registry, library.shards_dir, [path])


def add_images(registry: Registry, numbers: range) -> None:
    with registry.transaction():
        registry.connection.executemany(
            """INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status)
               VALUES (?, 0, 0, 0, 0, ?, 'ok')""",
            ((f"photo-{number:06d}.jpg", hash_of_number(number)) for number in numbers),
        )


def hash_of_number(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def _real_vectors(embedder: Embedder, random: np.random.Generator) -> Vectors:
    """Vectors of random crops of every real picture: what the library's vectors cluster around."""
    crops = 100 if embedder.spec.name == "color" else 20
    found = []
    for path in real_pictures():
        pixels = np.asarray(Image.open(path).convert("RGB"))
        for share in random.uniform(0.2, 0.7, crops):
            height, width = (max(8, int(side * share)) for side in pixels.shape[:2])
            top, left = (int(random.integers(pixels.shape[axis] + 1 - cut)) for axis, cut in enumerate((height, width)))
            found.append(embedder.embed([pixels[top : top + height, left : left + width]])[0])
    vectors: Vectors = np.stack(found)
    return vectors[np.asarray(np.isfinite(vectors).all(axis=1))]


def _mix(seeds: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """New vectors, (count, dim): three real histograms in random shares, as 4,096 pixels counted at random."""
    shares = random.dirichlet((2.0, 0.5, 0.2), count)
    parts = seeds[random.integers(len(seeds), size=(count, 3))] ** 2
    counts = random.poisson(4_096 * np.einsum("np,npd->nd", shares, parts))
    counts[:, 0] += 1  # never an empty picture
    vectors: Vectors = np.sqrt(counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
    return vectors


def _mix_signed(seeds: Vectors, count: int, random: np.random.Generator) -> Vectors:
    """New vectors, (count, dim): two real ones in random shares, and noise as large as they are."""
    shares = random.dirichlet((2.0, 0.5), count)
    parts = seeds[random.integers(len(seeds), size=(count, 2))]
    noise = random.standard_normal((count, seeds.shape[1]), np.float32) / np.sqrt(seeds.shape[1])
    vectors = np.einsum("np,npd->nd", shares, parts).astype(np.float32) + noise.astype(np.float32)
    mixed: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return mixed
