"""Forward passes: batches of what the workers prepared, in the order of the images, whatever happens."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.base import EmbedderSpec, LearnedEmbedder, Pixels, Prepared, Vectors
from imgrec.embedders.catalogue import EMBEDDERS
from imgrec.embedders.errors import DeviceMemoryError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities import efficientnet
from imgrec.embedders.modalities.efficientnet import EfficientNetEmbedder
from imgrec.embedders.work import forward
from imgrec.embedders.work.forward import ForwardStage, embed_picture
from imgrec.embedders.work.parts import Part
from imgrec.embedders.work.worker import IMAGES_PER_PART, embed_chunk
from imgrec.storage.shards import Failure, read_shard
from tests.embedders.work.test_worker import COLOR, scan, write_chunk, write_photos
from tests.storage.pictures import InProcess

MEMORY = 3


class SmallDevice(LearnedEmbedder):
    """A model whose device holds no more than `MEMORY` images at once; of an image of 7 it makes NaN."""

    spec = EmbedderSpec("small", 1, 2, 64)

    def __init__(self, holds: int = MEMORY) -> None:
        self.holds = holds
        self.loaded = False
        self.batches: list[int] = []

    def load(self, _machine: Machine) -> None:
        self.loaded = True

    def prepare(self, pixels: Pixels) -> Prepared:
        return np.asarray([pixels.ravel()[0]], np.int64)

    def forward(self, batch: Prepared) -> Vectors:
        import torch

        assert self.loaded
        self.batches.append(len(batch))
        if len(batch) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        angles = batch[:, 0] / 100
        rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        rows[batch[:, 0] == 7] = np.nan
        return rows


def part(*numbers: int) -> Part:
    """A part of images of these numbers, and one of two other modalities' rows."""
    hashes = tuple(bytes([number]) for number in numbers)
    prepared = np.asarray([[number] for number in numbers], np.int64).reshape(len(numbers), 1)
    rows = {"small": prepared if numbers else np.empty((0, 2), np.float32), "color": np.ones((len(numbers), 4))}
    return Part(hashes, rows, (Failure(b"x", "corrupt", "bad"),), ())


def numbers_of(parts: list[Part]) -> list[list[int]]:
    return [np.round(np.arctan2(one.rows["small"][:, 1], one.rows["small"][:, 0]) * 100).tolist() for one in parts]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 100])
def test_every_image_gets_its_own_vector(batch_size: int) -> None:
    embedder = SmallDevice(holds=100)
    groups = [(1, 2, 3), (), (4,), (5, 6), (), (8, 9, 10), (11,)]
    finished = list(
        ForwardStage({"small": embedder}, Machine(model_batch_size=batch_size)).finish(part(*group) for group in groups)
    )
    assert numbers_of(finished) == [list(group) for group in groups]
    assert [one.content_hashes for one in finished] == [part(*group).content_hashes for group in groups]
    assert all(one.rows["small"].dtype == np.float32 for one in finished)
    assert all(one.rows["color"].shape == (len(group), 4) for one, group in zip(finished, groups, strict=True))
    assert all(one.failures == part().failures for one in finished)
    assert max(embedder.batches) <= batch_size


def test_a_device_that_is_too_small_gets_smaller_batches(caplog: pytest.LogCaptureFixture) -> None:
    embedder = SmallDevice(holds=MEMORY)
    finished = list(
        ForwardStage({"small": embedder}, Machine(model_batch_size=16)).finish(
            part(*range(n, n + 8)) for n in (10, 20, 30, 40)
        )
    )
    assert numbers_of(finished) == [list(range(n, n + 8)) for n in (10, 20, 30, 40)]
    assert embedder.batches[-8:] == [2] * 8
    assert all(embedder.batches.count(size) <= 2 for size in (16, 8, 4))  # found by the two under way, and kept
    assert "does not hold 4 images at once: going on with 2" in caplog.messages[-1]


def test_two_batches_that_find_a_device_too_small_do_so_one_after_the_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    warn = forward.logger.warning

    def warn_slowly(*words: object) -> None:
        if words[2:] == (16, 8):  # the other batch would have the time to find out more, and be told first
            time.sleep(0.5)
        warn(*words)

    monkeypatch.setattr(forward.logger, "warning", warn_slowly)
    stage = ForwardStage({"small": SmallDevice(holds=MEMORY)}, Machine(model_batch_size=16))
    assert len(list(stage.finish(part(*range(n, n + 8)) for n in (10, 20, 30, 40)))) == 4
    assert [message.split("going on with ")[1].split()[0] for message in caplog.messages] == ["8", "4", "2"]


def test_the_next_chunk_knows_what_a_device_holds() -> None:
    list(ForwardStage({"small": SmallDevice(holds=MEMORY)}, Machine(model_batch_size=16)).finish([part(*range(16))]))
    later = SmallDevice(holds=MEMORY)
    assert numbers_of(
        list(ForwardStage({"small": later}, Machine(model_batch_size=16)).finish([part(1, 2, 3, 4)]))
    ) == [[1, 2, 3, 4]]
    assert later.batches == [2, 2]
    elsewhere = SmallDevice(holds=16)
    list(ForwardStage({"small": elsewhere}, Machine(device="cuda:1", model_batch_size=16)).finish([part(*range(16))]))
    assert elsewhere.batches == [16]


def test_a_device_that_holds_not_one_image_ends_the_chunk() -> None:
    stage = ForwardStage({"small": SmallDevice(holds=0)}, Machine(model_batch_size=4))
    with pytest.raises(DeviceMemoryError, match=r"^small: the device's memory is used up: end what else runs there"):
        list(stage.finish([part(1, 2)]))


def test_a_picture_at_a_time_in_many_threads_loads_one_model_and_keeps_its_threads() -> None:
    """As searches do. Loaded twice at once, a model would take its memory twice."""
    import torch

    efficientnet._network.cache_clear()
    embedder, threads = EfficientNetEmbedder(64), torch.get_num_threads()
    pictures = [np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8) for number in range(16)]
    with ThreadPoolExecutor(len(pictures)) as pool:
        rows = list(pool.map(lambda picture: embed_picture(embedder, picture, Machine(device="cpu")), pictures))
    assert efficientnet._network.cache_info().misses == 1
    assert np.allclose(np.concatenate(rows), embedder.embed(pictures), rtol=0, atol=1e-5)
    assert torch.get_num_threads() == threads


def test_a_picture_that_the_device_has_no_memory_for_is_told() -> None:
    with pytest.raises(DeviceMemoryError, match=r"^small: the device's memory is used up"):
        embed_picture(SmallDevice(holds=0), np.zeros((1, 1, 3), np.uint8), Machine())


@pytest.mark.parametrize(
    ("said", "is_memory"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("MPS backend out of memory (MPS allocated: 9.00 GB)", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_a_full_device_is_known_by_what_it_says(said: str, is_memory: bool) -> None:
    class Full(SmallDevice):
        def forward(self, batch: Prepared) -> Vectors:
            if len(batch) > 2 or not is_memory:  # what is no matter of memory passes with no batch
                raise RuntimeError(said)
            return super().forward(batch)

        def load(self, machine: Machine) -> None:
            if machine.device == "cuda:7":
                raise RuntimeError(said)
            super().load(machine)

    stage = ForwardStage({"small": Full()}, Machine(model_batch_size=4))
    if is_memory:
        assert numbers_of(list(stage.finish([part(1, 2, 3, 4)]))) == [[1, 2, 3, 4]]
    else:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            list(stage.finish([part(1, 2, 3, 4)]))
    with pytest.raises(DeviceMemoryError if is_memory else RuntimeError):
        ForwardStage({"small": Full()}, Machine(device="cuda:7", model_batch_size=4))


def test_only_one_model_runs_at_a_time() -> None:
    class Counting(SmallDevice):
        running = most = 0

        def forward(self, batch: Prepared) -> Vectors:
            Counting.running += 1
            Counting.most = max(Counting.most, Counting.running)
            threading.Event().wait(0.01)
            Counting.running -= 1
            return super().forward(batch)

    stages = [ForwardStage({"small": Counting(holds=9)}, Machine(model_batch_size=1)) for _ in range(3)]
    threads = [threading.Thread(target=lambda s=stage: list(s.finish([part(1, 2, 3)]))) for stage in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counting.most == 1


# In a chunk


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> SmallDevice:
    embedder = SmallDevice()

    def create(vector_settings: Mapping[str, Any], models_dir: Path | None) -> SmallDevice:
        return embedder

    monkeypatch.setitem(EMBEDDERS, "small", create)
    return embedder


def chunk_of(home: Path, count: int) -> Path:
    """A chunk of small pictures, and one more of which the model makes NaN."""
    write_photos(home / "photos", count)
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(home / "photos" / "seven.png")
    both = {"color": COLOR, "small": SmallDevice.spec.fingerprint}
    return write_chunk(home, scan(home / "photos"), fingerprints=both)


@pytest.mark.usefixtures("small")
def test_an_image_that_makes_nan_is_a_failure_of_that_model_only(tmp_path: Path) -> None:
    path = chunk_of(tmp_path, 3)
    shards = {read_shard(shard).modality: read_shard(shard) for shard in embed_chunk(path, InProcess(), 1).shards}
    (failure,) = shards["small"].failures
    assert (failure.status, failure.reason) == (
        "not_finite",
        "small makes numbers of this picture that are not finite",
    )
    assert (len(shards["small"].content_hashes), len(shards["color"].content_hashes)) == (3, 4)
    assert shards["color"].failures == ()
    assert np.isfinite(shards["small"].vectors).all()


def test_a_model_that_is_not_there_is_told_before_any_image_is_decoded(
    tmp_path: Path, small: SmallDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_machine: Machine) -> None:
        raise ModelFileError("no weights")

    monkeypatch.setattr(small, "load", fail)
    executor = InProcess()
    with pytest.raises(ModelFileError, match="no weights"):
        embed_chunk(chunk_of(tmp_path, 3), executor, 1)
    assert executor.calls == 0


def test_workers_go_on_decoding_for_the_next_forward_pass(tmp_path: Path, small: SmallDevice) -> None:
    small.holds = 100
    executor = InProcess()
    parts_begun: list[int] = []
    original = small.forward

    def forward(batch: Prepared) -> Vectors:
        if not parts_begun:
            _wait_until(lambda: executor.calls == 7)
        parts_begun.append(executor.calls)
        return original(batch)

    small.forward = forward  # type: ignore[method-assign] # watched
    count = 16 * IMAGES_PER_PART
    machine = Machine(model_batch_size=2 * IMAGES_PER_PART)
    assert embed_chunk(chunk_of(tmp_path, count - 1), executor, 1, machine).embedded == count
    # A pass takes two parts, and two more wait for theirs; meanwhile three are decoded, and no more.
    assert (parts_begun[0], len(parts_begun)) == (7, 8)


def test_the_next_batch_is_sent_while_one_is_computed() -> None:
    class Sending(SmallDevice):
        sent: ClassVar[list[int]] = []

        def send(self, batch: Prepared) -> Prepared:
            Sending.sent.append(len(batch))
            return batch

        def forward(self, batch: Prepared) -> Vectors:
            if not self.batches:
                _wait_until(lambda: len(Sending.sent) == 2)
            return super().forward(batch)

    stage = ForwardStage({"small": Sending(holds=2)}, Machine(model_batch_size=2))
    finished = list(stage.finish([part(1, 2), part(3, 4), part(5)]))
    assert numbers_of(finished) == [[1, 2], [3, 4], [5]]
    assert Sending.sent == [2, 2, 1]


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)
