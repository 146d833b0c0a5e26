"""One chunk of images in, one shard per modality out."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.base import Embedder, EmbedderSpec, Pixels, Vectors
from imgrec.embedders.catalogue import EMBEDDERS, create_embedder
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.embedders.work.chunk import Chunk, read_chunk
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk, is_embedded
from imgrec.storage.machine.pool import WorkerPool
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.pending import Pending
from imgrec.storage.photos.probe import probe_files
from imgrec.storage.photos.roots import one_root
from imgrec.storage.shards import Failure, list_shards, read_shard
from tests.storage.pictures import InProcess

SETTINGS = {"bins": [4, 4, 4], "decode_min_side": 64}
COLOR = create_embedder("color", SETTINGS).spec.fingerprint


class MeanEmbedder(Embedder):
    """A second modality: the mean colour."""

    spec = EmbedderSpec("mean", 1, 3, 64)

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        means = np.stack([picture.reshape(-1, 3).mean(axis=0) + 1 for picture in batch])
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


@pytest.fixture(autouse=True)
def opencv_threads() -> Iterator[None]:
    before = cv2.getNumThreads()
    yield
    cv2.setNumThreads(before)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(2, preload=["imgrec.embedders.work.worker"]) as pool:
        yield pool


@pytest.fixture
def two_modalities(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(vector_settings: Mapping[str, Any], models_dir: Path | None) -> Embedder:
        return MeanEmbedder()

    monkeypatch.setitem(EMBEDDERS, "mean", create)


def write_photos(folder: Path, count: int) -> list[Pending]:
    """Write `count` small pictures, and say of them what a scan would."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.png")
    return scan(folder)


def scan(folder: Path) -> list[Pending]:
    probes = probe_files(one_root(folder), sorted(os.listdir(folder)), 60)
    return [Pending(p.content_hash or b"", *p.file) for p in probes]


def write_chunk(home: Path, pending: Sequence[Pending], **changes: Any) -> Path:
    chunk = Chunk(
        images_roots={"": str(home / "photos")},
        shards_dir=str(home / "shards"),
        models_dir=str(home / "models"),
        fingerprints={"color": COLOR},
        vector_settings=SETTINGS,
        max_megapixels=1,
        decode_timeout_s=60,
        pending=tuple(pending),
    )
    return dataclasses.replace(chunk, **changes).write(home / "chunks")


# What a node needs

DOCS = Path(__file__).parents[3] / "docs"
BLIND = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *where: None if name.partition(".")[0] in MISSING else find_spec(name, *where)
"""
EMBED_ALL = """
import sys
from pathlib import Path
from imgrec.embedders.work.worker import embed_chunk
from imgrec.storage.machine.pool import WorkerPool
if __name__ == "__main__":
    with WorkerPool(2, preload=["imgrec.embedders.work.worker"]) as pool:
        print(len(embed_chunk(Path(sys.argv[1]), pool, 2).shards))
"""


def test_a_node_needs_no_more_than_the_docs_say(tmp_path: Path) -> None:
    """All else is as if it were not installed, in the worker processes too: Prefect, MLflow, DuckDB, torch, …"""
    (line,) = re.findall(r"^\$ pip install (numpy .*)$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    there = {*line.split(), "image-recommender", "setuptools"}
    missing = [name for name, brought_by in packages_distributions().items() if not there.intersection(brought_by)]
    assert {"prefect", "mlflow", "duckdb", "torch", "submitit", "pydantic", "click"} <= set(missing)
    blind = tmp_path / "blind"
    blind.mkdir()
    (blind / "sitecustomize.py").write_text(f"MISSING = {missing}{BLIND}")
    (tmp_path / "embed_all.py").write_text(EMBED_ALL)
    fingerprints = {
        name: create_embedder(name, SETTINGS).spec.fingerprint for name in ("color", "sift", "efficientnet")
    }
    chunk = write_chunk(tmp_path, write_photos(tmp_path / "photos", 3), fingerprints=fingerprints)
    done = subprocess.run(
        [sys.executable, tmp_path / "embed_all.py", chunk],
        env={**os.environ, "PYTHONPATH": str(blind)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("3\n", "")


# Chunks


def test_a_chunk_comes_back_from_its_file(tmp_path: Path) -> None:
    pending = [
        Pending(b"\xff" * 32, "caf\udce9\n.png", 1, 2**62, 2**62),
        Pending(b"\0" * 32, "\N{CAMERA}.png", 0, 0, 0),
    ]
    path = write_chunk(tmp_path, pending)
    chunk = read_chunk(path)
    assert chunk.pending == tuple(pending)
    assert chunk.write(tmp_path / "again").read_bytes() == path.read_bytes()
    assert path.stem == chunk.digest


def test_a_chunk_is_named_by_what_is_computed(tmp_path: Path) -> None:
    one, two = Pending(b"1" * 32, "a.png", 1, 1, 1), Pending(b"2" * 32, "b.png", 1, 1, 1)
    name = write_chunk(tmp_path, [one, two]).name
    assert write_chunk(tmp_path, [two._replace(path="moved.png"), one], images_roots={"": "/elsewhere"}).name == name
    assert write_chunk(tmp_path, [one]).name != name
    assert write_chunk(tmp_path, [one, two], fingerprints={"color": "0" * 16}).name != name


# One chunk


def test_every_image_gets_the_vector_of_its_pixels(tmp_path: Path, pool: WorkerPool) -> None:
    pending = write_photos(tmp_path / "photos", 2 * IMAGES_PER_PART + 3)
    heard: list[int] = []
    path = write_chunk(tmp_path, pending)
    assert not is_embedded(path)
    outcome = embed_chunk(path, pool, 4, on_images=heard.append)
    assert (outcome.embedded, outcome.failed, outcome.changed) == (len(pending), 0, ())
    assert heard == [IMAGES_PER_PART, IMAGES_PER_PART, 3]
    assert is_embedded(path)
    (shard_path,) = outcome.shards
    assert list(list_shards(tmp_path / "shards")) == [shard_path]
    shard = read_shard(shard_path)
    assert (shard.modality, shard.fingerprint, shard.failures) == ("color", COLOR, ())
    assert shard.content_hashes == tuple(entry.content_hash for entry in pending)
    pictures = [decode((tmp_path / "photos" / entry.path).read_bytes(), 64, 1) for entry in pending]
    assert shard.vectors.tobytes() == create_embedder("color", SETTINGS).embed(pictures).tobytes()


@pytest.mark.usefixtures("two_modalities")
def test_each_modality_gets_a_shard_and_each_image_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    def count_and_decode(data: bytes, min_side: int, max_megapixels: float, icc_profiles: str) -> Pixels:
        decoded.append(min_side)
        return decode(data, min_side, max_megapixels, icc_profiles)

    monkeypatch.setattr("imgrec.embedders.work.worker.decode", count_and_decode)
    pending = write_photos(tmp_path / "photos", IMAGES_PER_PART + 1)
    (tmp_path / "photos" / "bad.png").write_bytes(b"bad")
    pending = scan(tmp_path / "photos")
    path = write_chunk(tmp_path, pending, fingerprints={"color": COLOR, "mean": MeanEmbedder.spec.fingerprint})
    outcome = embed_chunk(path, InProcess(), 2)
    shards = {read_shard(shard).modality: read_shard(shard) for shard in outcome.shards}
    assert {name: shard.vectors.shape for name, shard in shards.items()} == {"color": (9, 64), "mean": (9, 3)}
    assert shards["color"].content_hashes == shards["mean"].content_hashes
    assert shards["color"].failures == shards["mean"].failures
    assert decoded == [64] * len(pending)


@pytest.mark.usefixtures("two_modalities")
def test_a_further_modality_changes_no_byte_of_the_others(tmp_path: Path) -> None:
    pending = write_photos(tmp_path / "photos", 3)
    alone = embed_chunk(write_chunk(tmp_path, pending), InProcess(), 1).shards[0]
    before = alone.read_bytes()
    alone.unlink()
    both = {"color": COLOR, "mean": MeanEmbedder.spec.fingerprint}
    embed_chunk(write_chunk(tmp_path, pending, fingerprints=both), InProcess(), 1)
    assert alone.read_bytes() == before


def test_one_bad_image_never_costs_a_chunk(tmp_path: Path, pool: WorkerPool) -> None:
    write_photos(tmp_path / "photos", 4)
    good = (tmp_path / "photos" / "00.png").read_bytes()
    (tmp_path / "photos" / "01.png").write_bytes(good[: len(good) // 2])
    (tmp_path / "photos" / "02.png").write_bytes(b"")
    (tmp_path / "photos" / "10.png").write_bytes(b"text")
    Image.new("1", (1_001, 1_000)).save(tmp_path / "photos" / "11.png")
    pending = {entry.path: entry for entry in scan(tmp_path / "photos")}
    path = write_chunk(tmp_path, list(pending.values()))
    outcome = embed_chunk(path, pool, 1)
    shard = read_shard(outcome.shards[0])
    assert shard.content_hashes == (pending["00.png"].content_hash, pending["03.png"].content_hash)
    assert {(failure.content_hash, failure.status) for failure in shard.failures} == {
        (pending["01.png"].content_hash, "corrupt"),
        (pending["02.png"].content_hash, "empty"),
        (pending["10.png"].content_hash, "not_an_image"),
        (pending["11.png"].content_hash, "too_large"),
    }
    assert all(failure.reason and "\n" not in failure.reason for failure in shard.failures)
    assert (outcome.embedded, outcome.failed) == (2, 4)
    assert is_embedded(path)


def test_a_chunk_of_nothing_but_bad_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"text")
    pending = scan(tmp_path / "photos")
    outcome = embed_chunk(write_chunk(tmp_path, pending), InProcess(), 1)
    shard = read_shard(outcome.shards[0])
    assert shard.vectors.shape == (0, 64)
    assert shard.failures == (
        Failure(pending[0].content_hash, "not_an_image", "the content is none of the image formats that are read"),
    )


# Files that are no longer what the scan saw


def spoil_size(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def spoil_time(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def spoil_content(path: Path) -> None:
    """As a swap of two pictures of one size and time does."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(data)
    os.utime(path, ns=(status.st_mtime_ns, status.st_mtime_ns))


def spoil_kind(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def spoil_place(path: Path) -> None:
    """What lies elsewhere is none of the library's business, even if it is the same."""
    path.rename(path.parents[1] / "elsewhere.png")
    path.symlink_to(path.parents[1] / "elsewhere.png")


def test_a_file_with_another_time_and_the_same_content_is_embedded(tmp_path: Path) -> None:
    pending = write_photos(tmp_path / "photos", 3)
    spoil_time(tmp_path / "photos" / "01.png")
    outcome = embed_chunk(write_chunk(tmp_path, pending), InProcess(), 1)
    assert (outcome.changed, outcome.embedded) == ((), 3)


@pytest.mark.parametrize("spoil", [Path.unlink, spoil_size, spoil_content, spoil_kind, spoil_place])
def test_a_file_that_changed_since_the_scan_is_left_out(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    pending = write_photos(tmp_path / "photos", 3)
    spoil(tmp_path / "photos" / "01.png")
    path = write_chunk(tmp_path, pending)
    outcome = embed_chunk(path, InProcess(), 1)
    assert outcome.changed == ("01.png",)
    shard = read_shard(outcome.shards[0])
    assert shard.content_hashes == (pending[0].content_hash, pending[2].content_hash)
    assert shard.failures == ()
    assert not is_embedded(path)


def test_a_chunk_whose_files_are_all_gone_writes_no_shard(tmp_path: Path) -> None:
    pending = write_photos(tmp_path / "photos", 1)
    (tmp_path / "photos" / "00.png").unlink()
    assert embed_chunk(write_chunk(tmp_path, pending), InProcess(), 1).shards == ()


def test_a_name_that_is_not_utf8_is_embedded(tmp_path: Path, pool: WorkerPool) -> None:
    write_photos(tmp_path / "photos", 1)
    (tmp_path / "photos" / "00.png").rename(tmp_path / "photos" / "caf\udce9.png")
    assert embed_chunk(write_chunk(tmp_path, scan(tmp_path / "photos")), pool, 1).embedded == 1


# The same bytes


def test_shards_are_the_same_whatever_the_number_of_workers(tmp_path: Path, pool: WorkerPool) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 3 * IMAGES_PER_PART + 1))
    written = []
    with WorkerPool(1) as one:
        for executor, in_flight in ((one, 1), (pool, 1), (pool, 100), (InProcess(), 3)):
            written.append(embed_chunk(path, executor, in_flight).shards[0].read_bytes())
    assert len(set(written)) == 1


def test_a_damaged_shard_is_not_embedded(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 1))
    shard = embed_chunk(path, InProcess(), 1).shards[0]
    before = shard.read_bytes()
    shard.write_bytes(before[:-1])
    assert not is_embedded(path)
    embed_chunk(path, InProcess(), 1)
    assert shard.read_bytes() == before


def test_a_machine_with_other_code_computes_nothing(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, write_photos(tmp_path / "photos", 1), fingerprints={"color": "0" * 16})
    executor = InProcess()
    with pytest.raises(EmbedderParameterError, match=f"{COLOR} here and of {'0' * 16} at the driver: install the same"):
        embed_chunk(path, executor, 1)
    assert executor.calls == 0


# Processes


def test_a_worker_computes_on_one_core(tmp_path: Path) -> None:
    with WorkerPool(1) as one:
        embed_chunk(write_chunk(tmp_path, write_photos(tmp_path / "photos", 1)), one, 1)
        assert one.submit(cv2.getNumThreads).result() == 1


def test_workers_leave_ctrl_c_to_their_parent(pool: WorkerPool) -> None:
    assert pool.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


PARENT = """
import glob, os, time
from imgrec.storage.machine.pool import WorkerPool
if __name__ == "__main__":
    pool = WorkerPool(2)
    pids = set()
    while len(pids) < 2:
        busy = [pool.submit(time.sleep, 0.05), pool.submit(os.getpid), pool.submit(os.getpid)]
        pids |= {future.result() for future in busy[1:]}
    later = [pool.submit(time.sleep, 60) for _ in range(4)]
    children = [pid for path in glob.glob("/proc/self/task/*/children") for pid in open(path).read().split()]
    print(*pids, *children, flush=True)
    time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("no /proc here")
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) >= 3
        assert all(map(is_running, pids))
        parent.kill()
    deadline = time.monotonic() + 20
    while running := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.02)


def test_a_chunk_file_holds_no_code(tmp_path: Path) -> None:
    path = write_chunk(tmp_path, [Pending(b"1" * 32, "a.png", 1, 1, 1)])
    assert json.loads(path.read_text())["pending"] == [[(b"1" * 32).hex(), "a.png", 1, 1, 1]]
