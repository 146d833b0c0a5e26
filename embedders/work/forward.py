"""The forward passes of learned embedders: in batches, in the process that embeds a chunk, while its workers decode."""

import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np

from imgrec.embedders.base import Embedder, LearnedEmbedder, Pixels, Prepared, TextEmbedder, Vectors
from imgrec.embedders.devices import give_memory_back, is_out_of_memory
from imgrec.embedders.errors import DeviceMemoryError
from imgrec.embedders.machine import Machine
from imgrec.embedders.work.faults import Refused, attempt, check_rows, is_machines, plain_picture
from imgrec.embedders.work.parts import Part

# Two chunks may be under way in one process, or searches in many threads; each pass uses all cores, or the one GPU.
_one_at_a_time = threading.Lock()
# How many images at once a device turned out to hold, by fingerprint and device: the next chunk need not find out.
_held: dict[tuple[str, str], int] = {}

_TEXTS_AT_ONCE = 64

logger = logging.getLogger(__name__)


class ForwardStage:
    """Makes vectors of what learned embedders prepared; their weights are loaded when it is made.

    Raises:
        ModelFileError: weights are missing or damaged.
        DeviceMemoryError: the device has no memory for them.
    """

    def __init__(self, embedders: Mapping[str, Embedder], machine: Machine) -> None:
        self._learned = {name: found for name, found in embedders.items() if isinstance(found, LearnedEmbedder)}
        self._device = machine.device
        self._halving = threading.Lock()
        known = [_held.get((embedder.spec.fingerprint, self._device)) for embedder in self._learned.values()]
        self._batch_size = min(size for size in (machine.model_batch_size, *known) if size)
        with _one_at_a_time:
            for embedder in self._learned.values():
                with _telling_no_room(embedder):
                    embedder.load(machine)

    @property
    def images_wanted(self) -> int:
        """How many prepared images a forward pass takes at once."""
        return self._batch_size if self._learned else 0

    def finish(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield the parts with vectors in place of what was prepared, in their order.

        While a batch is computed, the next one is collected and sent to the device.
        """
        if not self._learned:
            yield from parts
            return
        under_way: Future[list[Part]] | None = None
        with ThreadPoolExecutor(2, thread_name_prefix="imgrec-forward") as threads:
            for batch in self._batches(parts):
                begun = threads.submit(self._embed, batch)
                if under_way is not None:
                    yield from under_way.result()
                under_way = begun
            if under_way is not None:
                yield from under_way.result()

    def _batches(self, parts: Iterable[Part]) -> Iterator[Sequence[Part]]:
        waiting: list[Part] = []
        for part in parts:
            waiting.append(part)
            if sum(len(one.content_hashes) for one in waiting) >= self.images_wanted:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    def _embed(self, parts: Sequence[Part]) -> list[Part]:
        finished = list(parts)
        for name, embedder in self._learned.items():
            prepared = [part.rows[name] for part in parts if len(part.rows[name])]
            if prepared:
                outcomes = iter(self._forward(embedder, np.concatenate(prepared)))
                finished = [part.with_rows(embedder, list(islice(outcomes, len(part.rows[name])))) for part in finished]
        return finished

    def _forward(self, embedder: LearnedEmbedder, prepared: Prepared) -> list[Vectors | Refused]:
        outcomes: list[Vectors | Refused] = []
        start = 0
        while start < len(prepared):
            batch = prepared[start : start + self._batch_size]
            found = _forward_or_refuse(embedder, batch)
            if found is None:
                self._halve(embedder, len(batch))
                continue
            outcomes += found
            start += len(batch)
        return outcomes

    def _halve(self, embedder: LearnedEmbedder, tried: int) -> None:
        with self._halving:
            if tried // 2 >= self._batch_size:  # the other batch that is under way has found it already
                return
            self._batch_size = _held[embedder.spec.fingerprint, self._device] = tried // 2
            logger.warning(
                "%s: the device's memory does not hold %d images at once: going on with %d (model_batch_size)",
                embedder.spec.name, tried, self._batch_size,
            )  # fmt: skip


def embed_picture(embedder: Embedder, pixels: Pixels, machine: Machine) -> Vectors | Refused:
    """Embed one picture (H, W, 3) into a row (1, dim), at once and in any thread; models are loaded, and take turns.

    Raises:
        EmbedderFailsError: it fails on every picture; on this one alone, it is refused.
        DeviceError: the device is not there.
        DeviceMemoryError: it has no memory for the model.
        ModelFileError: weights are missing or damaged.
    """

    def make(picture: Pixels) -> Vectors:
        return check_rows(embedder, _embed_alone(embedder, picture, machine), 1)

    return attempt(embedder, make, pixels, plain_picture)


def _embed_alone(embedder: Embedder, pixels: Pixels, machine: Machine) -> Vectors:
    if not isinstance(embedder, LearnedEmbedder):
        return embedder.embed([pixels])
    prepared = embedder.prepare(pixels)[np.newaxis]
    with _one_at_a_time, _telling_no_room(embedder):
        embedder.load(machine)
        return embedder.forward(embedder.send(prepared))


def embed_text(embedder: TextEmbedder, text: str, machine: Machine) -> Vectors:
    """Embed words into a row (1, dim), as `embed_picture` does a picture."""
    return embed_texts(embedder, [text], machine)


def embed_texts(embedder: TextEmbedder, texts: Sequence[str], machine: Machine) -> Vectors:
    """Embed N > 0 texts into rows (N, dim), a batch at a time."""
    rows = []
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        with _one_at_a_time:
            rows.append(embedder.embed_texts(texts[start : start + _TEXTS_AT_ONCE], machine))
    return np.concatenate(rows)


@contextmanager
def _telling_no_room(embedder: LearnedEmbedder) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(
            f"{embedder.spec.name}: the device's memory is used up: end what else runs there, or name another --device"
        ) from error


def _forward_or_refuse(embedder: LearnedEmbedder, batch: Prepared) -> list[Vectors | Refused] | None:
    """Embed a batch; one that fails is halved until the pictures are found that fail alone, while a plain one does not.

    None if the device's memory does not hold it.
    """
    if len(batch) == 1:

        def make(alone: Prepared) -> Vectors:
            rows = _try_forward(embedder, alone)
            assert rows is not None  # one picture is not halved
            row: Vectors = rows[0]
            return row

        return [attempt(embedder, make, batch, lambda: embedder.prepare(plain_picture())[np.newaxis])]
    try:
        rows = _try_forward(embedder, batch)
    except Exception as error:
        if is_machines(error):
            raise
    else:
        return None if rows is None else list(rows)
    halves = [_forward_or_refuse(embedder, half) for half in np.array_split(batch, 2)]
    return None if None in halves else [outcome for half in halves for outcome in half or ()]


def _try_forward(embedder: LearnedEmbedder, batch: Prepared) -> Vectors | None:
    """Embed a batch; None, and memory tidied up, if the device's does not hold it and it can be halved."""
    try:
        with _telling_no_room(embedder):
            sent = embedder.send(batch)
            with _one_at_a_time:
                return check_rows(embedder, embedder.forward(sent), len(batch))
    except DeviceMemoryError:
        if len(batch) == 1:
            raise
    give_memory_back()  # only here, where the failed pass has let go of its tensors
    return None
