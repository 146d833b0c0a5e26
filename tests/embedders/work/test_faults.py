"""An embedder that fails on a picture fails on that picture only; one that fails on every picture ends the chunk."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.base import Embedder, EmbedderSpec, Pixels, Prepared, Vectors
from imgrec.embedders.catalogue import EMBEDDERS
from imgrec.embedders.errors import EmbedderFailsError, ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.faults import Refused
from imgrec.embedders.work.forward import ForwardStage, embed_picture
from imgrec.embedders.work.worker import embed_chunk, is_embedded
from imgrec.storage.shards import Shard, read_shard
from tests.embedders.work.test_forward import SmallDevice, part
from tests.embedders.work.test_worker import COLOR, scan, write_chunk, write_photos
from tests.storage.pictures import InProcess

GOOD, BAD = 5, 7
Answer = Callable[[], object]


class Fragile(Embedder):
    """An embedder that answers otherwise to a picture whose first value is `BAD`, or to every one."""

    spec = EmbedderSpec("fragile", 1, 2, 64)

    def __init__(self, answer: Answer, to_all: bool = False) -> None:
        self.answer = answer
        self.to_all = to_all

    def embed(self, batch: Sequence[Pixels]) -> Vectors:
        rows = [
            self.answer() if self.to_all or pixels.flat[0] == BAD else np.array([0.6, 0.8], np.float32)
            for pixels in batch
        ]
        return rows  # type: ignore[return-value] # whatever it is


class FragileModel(SmallDevice):
    """The same of a model, in its worker's half or in its forward pass; the batches that it is given are kept."""

    def __init__(self, in_worker: Answer | None = None, in_forward: Answer | None = None, to_all: bool = False) -> None:
        super().__init__(holds=100)
        self.in_worker, self.in_forward, self.to_all = in_worker, in_forward, to_all

    def prepare(self, pixels: Pixels) -> Prepared:
        prepared = super().prepare(pixels)
        if self.in_worker and (self.to_all or prepared[0] == BAD):
            return self.in_worker()  # type: ignore[return-value] # whatever it is
        return prepared

    def forward(self, batch: Prepared) -> Vectors:
        if self.in_forward and (self.to_all or BAD in batch):
            self.batches.append(len(batch))
            return self.in_forward()  # type: ignore[return-value] # whatever it is
        return super().forward(np.where(batch == BAD, GOOD, batch))


def raising(error: Exception) -> Answer:
    def answer() -> object:
        raise error

    return answer


def embed(home: Path, monkeypatch: pytest.MonkeyPatch, embedder: Embedder) -> tuple[Shard, Shard]:
    """Embed three pictures, the last of which is bad; return the shards of color and of `embedder`."""

    def create(vector_settings: Mapping[str, Any], models_dir: Path | None) -> Embedder:
        return embedder

    name = embedder.spec.name
    monkeypatch.setitem(EMBEDDERS, name, create)
    home.mkdir(exist_ok=True)
    write_photos(home / "photos", 2)
    Image.fromarray(np.full((4, 4, 3), BAD, np.uint8)).save(home / "photos" / "bad.png")
    both = {"color": COLOR, name: embedder.spec.fingerprint}
    path = write_chunk(home, scan(home / "photos"), fingerprints=both)
    outcome = embed_chunk(path, InProcess(), 1)
    assert (outcome.embedded, outcome.failed) == (3, 0)
    assert is_embedded(path)
    shards = {read_shard(shard).modality: read_shard(shard) for shard in outcome.shards}
    return shards["color"], shards[name]


ROWS = "instead of float32"
ANSWERS = [
    pytest.param(raising(ZeroDivisionError("no\nedges")), "ZeroDivisionError: no edges", id="raises"),
    pytest.param(raising(KeyError()), "KeyError", id="says nothing"),
    pytest.param(
        lambda: np.array([1, 0, 0], np.float32), rf"ValueError: it makes float32 \(1, 3\) {ROWS} \(1, 2\)", id="dim"
    ),
    pytest.param(
        lambda: np.array([1, 0], np.complex64), rf"ValueError: it makes complex64 \(1, 2\) {ROWS}", id="complex"
    ),
    pytest.param(lambda: np.array([1, 0]), rf"ValueError: it makes int64 \(1, 2\) {ROWS}", id="integers"),
    pytest.param(lambda: None, r"ValueError: it makes object \(1,\)", id="nothing"),
]


@pytest.mark.parametrize(("answer", "reason"), ANSWERS)
def test_a_picture_it_fails_on_is_a_failure_of_that_modality_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    color, fragile = embed(tmp_path, monkeypatch, Fragile(answer))
    assert (len(color.content_hashes), color.failures) == (3, ())
    assert fragile.vectors.tolist() == [[np.float32(0.6), np.float32(0.8)]] * 2
    (failure,) = fragile.failures
    assert failure.content_hash not in fragile.content_hashes
    assert failure.status == "embedder_failed"
    assert re.match(f"fragile fails on this picture: {reason}", failure.reason)


@pytest.mark.parametrize("row", [[np.inf, 0], [np.nan, 1]])
def test_a_row_that_is_not_finite_is_no_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: list[float]
) -> None:
    _, fragile = embed(tmp_path, monkeypatch, Fragile(lambda: np.array(row, np.float32)))
    assert [failure.status for failure in fragile.failures] == ["not_finite"]


def test_a_row_of_nan_is_silence_and_wider_floats_are_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, silent = embed(tmp_path / "a", monkeypatch, Fragile(lambda: np.array([np.nan, np.nan], np.float32)))
    assert [failure.status for failure in silent.failures] == ["no_features"]
    _, wide = embed(tmp_path / "b", monkeypatch, Fragile(lambda: np.array([1.0, 0.0])))
    assert wide.failures == ()
    assert wide.vectors.dtype == np.float32


@pytest.mark.parametrize(("answer", "reason"), ANSWERS)
def test_what_it_does_to_every_picture_ends_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, reason: str
) -> None:
    with pytest.raises(EmbedderFailsError, match=rf"^fragile fails on every picture \({reason}.*: install what it is"):
        embed(tmp_path, monkeypatch, Fragile(answer, to_all=True))


@pytest.mark.parametrize(
    "error", [ModelFileError("no weights"), PermissionError(13, "Permission denied", "/weights"), MemoryError()]
)
def test_a_failure_that_has_its_own_words_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)) as raised:
        embed(tmp_path, monkeypatch, Fragile(raising(error), to_all=True))
    assert raised.value is error


def test_a_full_disk_is_no_picture_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="No space left"):
        embed(tmp_path, monkeypatch, Fragile(raising(OSError(28, "No space left on device"))))


def test_what_fails_once_is_tried_again() -> None:
    outcomes = iter([RuntimeError("once")])

    def answer() -> object:
        for error in outcomes:
            raise error
        return np.array([0, 1], np.float32)

    found = embed_picture(Fragile(answer), np.full((4, 4, 3), BAD, np.uint8), Machine())
    assert not isinstance(found, Refused)
    assert found.tolist() == [[0, 1]]


# Models


MODEL = [
    pytest.param({"in_worker": raising(ValueError("odd"))}, "ValueError: odd", id="prepare raises"),
    pytest.param(
        {"in_worker": lambda: np.zeros(2, np.int64)},
        r"ValueError: it prepares int64 \(2,\) instead of int64 \(1,\)",
        id="prepares another shape",
    ),
    pytest.param(
        {"in_worker": lambda: np.zeros(1, np.float32)},
        r"ValueError: it prepares float32 \(1,\) instead of int64",
        id="prepares another dtype",
    ),
    pytest.param({"in_forward": raising(RuntimeError("sizes differ"))}, "RuntimeError: sizes differ", id="raises"),
    pytest.param({"in_forward": lambda: np.zeros((1, 3))}, rf"ValueError: it makes float64 \(1, 3\) {ROWS}", id="dim"),
]


@pytest.mark.parametrize(("answers", "reason"), MODEL)
def test_a_picture_a_model_fails_on_is_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], reason: str
) -> None:
    color, small = embed(tmp_path, monkeypatch, FragileModel(**answers))
    assert (len(color.content_hashes), len(small.content_hashes)) == (3, 2)
    (failure,) = small.failures
    assert failure.status == "embedder_failed"
    assert re.match(f"small fails on this picture: {reason}", failure.reason)


@pytest.mark.parametrize("answers", [{"in_worker": raising(KeyError("k"))}, {"in_forward": raising(KeyError("k"))}])
def test_a_model_that_fails_on_every_picture_ends_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]
) -> None:
    with pytest.raises(EmbedderFailsError, match=r"^small fails on every picture \(KeyError: 'k'\): install"):
        embed(tmp_path, monkeypatch, FragileModel(**answers, to_all=True))


def test_a_batch_is_halved_until_the_picture_is_found() -> None:
    embedder = FragileModel(in_forward=raising(RuntimeError("odd")))
    groups = [tuple(range(10, 20)), (20, BAD, 21), tuple(range(22, 25))]
    finished = list(
        ForwardStage({"small": embedder}, Machine(model_batch_size=16)).finish(part(*group) for group in groups)
    )
    assert [one.taken("small") for one in finished] == [
        [bytes([number]) for number in group if number != BAD] for group in groups
    ]
    assert [len(one.rows["small"]) for one in finished] == [10, 2, 3]
    assert list(finished[1].refused["small"]) == [bytes([BAD])]
    for one in finished:
        angles = np.arctan2(one.rows["small"][:, 1], one.rows["small"][:, 0])
        assert np.round(angles * 100).tolist() == [image[0] for image in one.taken("small")]
    # 16 and its halves with the bad one, which is tried twice beside a plain one; the other halves are whole.
    assert sorted(embedder.batches, reverse=True) == [16, 8, 8, 4, 4, 2, 2, 1, 1, 1, 1]
