"""What every learned embedder promises beyond the contract of all."""

import io
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from benchmarks.pictures import real_pictures
from imgrec.embedders.base import Embedder, LearnedEmbedder, Pixels, Vectors
from imgrec.storage.photos.decoding import decode
from tests.embedders.contract import EmbedderContract, make_pictures

PREPARE_WITHOUT_TORCH = """
import ast, sys
import numpy as np
from imgrec.embedders.catalogue import create_embedder
embedder = create_embedder(sys.argv[1], ast.literal_eval(sys.argv[2]))
embedder.prepare(np.zeros((30, 40, 3), np.uint8))
print(embedder.spec.fingerprint, "torch" in sys.modules)
"""


def photos(min_side: int = 100_000) -> list[Pixels]:
    """The real pictures, decoded in full unless `min_side` lets JPEGs be shrunk at decoding."""
    return [decode(path.read_bytes(), min_side, 256) for path in real_pictures()]


def shrunk_and_full(count: int) -> tuple[list[Pixels], list[Pixels]]:
    """Real pictures as large JPEGs, decoded as `decode_min_side` does it by default, and in full."""
    shrunk, full = [], []
    for picture in photos()[:count]:
        buffer = io.BytesIO()
        shape = (max(1_200, 2 * picture.shape[1]), max(900, 2 * picture.shape[0]))
        Image.fromarray(picture).resize(shape, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=90)
        shrunk.append(decode(buffer.getvalue(), 448, 256))
        full.append(decode(buffer.getvalue(), 100_000, 256))
        assert shrunk[-1].shape[0] < full[-1].shape[0]
    return shrunk, full


def median_cosine(vectors: Vectors) -> float:
    """The median cosine of two different rows."""
    return float(np.median((vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)]))


class LearnedContract(EmbedderContract):
    """Adds torch's threads to the contract, and the two halves."""

    tolerance: ClassVar[float] = 1e-5

    @pytest.fixture(autouse=True)
    def torch_threads(self) -> Iterator[None]:
        import torch

        before = torch.get_num_threads()
        yield
        torch.set_num_threads(before)

    def set_threads(self, count: int) -> None:
        import torch

        torch.set_num_threads(count)

    def test_the_halves_make_the_whole(self, embedder: Embedder) -> None:
        assert isinstance(embedder, LearnedEmbedder)
        prepared = [embedder.prepare(picture) for picture in make_pictures()]
        assert len({(rows.shape, rows.dtype) for rows in prepared}) == 1
        travelled = pickle.loads(pickle.dumps(prepared))  # as from a worker process
        self.assert_same(embedder.forward(embedder.send(np.stack(travelled))), embedder.embed(make_pictures()))

    def test_workers_need_no_torch(self) -> None:
        command = [sys.executable, "-c", PREPARE_WITHOUT_TORCH, self.modality, repr(dict(self.vector_settings))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split()[1:] == ["False"]
