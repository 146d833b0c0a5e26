"""What every embedder promises. A test class of an embedder inherits `EmbedderContract` and adds what is its own."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest

from imgrec.embedders.base import Embedder, Pixels
from imgrec.embedders.catalogue import check_modality as check_known
from imgrec.embedders.catalogue import create_embedder
from imgrec.storage.names import check_modality

PRINT_FINGERPRINT = """
import ast, sys
from imgrec.embedders.catalogue import create_embedder
from pathlib import Path
models_dir = Path(sys.argv[3]) if len(sys.argv) > 3 else None
print(create_embedder(sys.argv[1], ast.literal_eval(sys.argv[2]), models_dir).spec.fingerprint)
"""


def make_pictures() -> list[Pixels]:
    """Pictures of many sizes and kinds: noise, ramps, one colour, one pixel, extreme shapes."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 255, 300, dtype=np.uint8)
    return [
        random.integers(0, 256, (40, 60, 3), np.uint8),
        random.integers(0, 256, (700, 500, 3), np.uint8),
        np.ascontiguousarray(np.broadcast_to(ramp[:, None, None], (300, 200, 3))),
        np.full((64, 64, 3), 255, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.full((1, 1, 3), 77, np.uint8),
        random.integers(0, 256, (3, 2_000, 3), np.uint8),
        random.integers(0, 256, (2_000, 1, 3), np.uint8),
    ]


class EmbedderContract:
    """Fill in `modality`, `vector_settings`, and `changes`: settings that each have to change the fingerprint."""

    modality: ClassVar[str]
    vector_settings: ClassVar[Mapping[str, Any]]
    changes: ClassVar[Sequence[Mapping[str, Any]]]
    # Which of `make_pictures` have nothing to say to this embedder, and get a row of NaN.
    silent: ClassVar[Sequence[int]] = ()
    # How far rows may be from each other that were computed another way; 0 means the same bytes.
    tolerance: ClassVar[float] = 0
    # Where a library's models would be, for an embedder that needs one.
    models_dir: ClassVar[Path | None] = None

    @pytest.fixture
    def embedder(self) -> Embedder:
        return self.create(self.vector_settings)

    def create(self, vector_settings: Mapping[str, Any]) -> Embedder:
        """Make an embedder that is ready to embed."""
        return create_embedder(self.modality, vector_settings, self.models_dir)

    @pytest.fixture(autouse=True)
    def opencv_threads(self) -> Iterator[None]:
        before = cv2.getNumThreads()
        yield
        cv2.setNumThreads(before)

    def set_threads(self, count: int) -> None:
        cv2.setNumThreads(count)

    def assert_same(self, left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> None:
        if self.tolerance:
            assert np.allclose(left, right, rtol=0, atol=self.tolerance)
        else:
            assert left.tobytes() == right.tobytes()

    def test_it_is_in_the_catalogue_by_a_name_that_tables_can_carry(self, embedder: Embedder) -> None:
        assert embedder.spec.name == self.modality
        check_known(self.modality)
        assert check_modality(self.modality) == self.modality

    def test_rows_are_float32_of_length_one(self, embedder: Embedder) -> None:
        pictures = make_pictures()
        vectors = embedder.embed(pictures)
        assert vectors.dtype == np.float32
        assert vectors.shape == (len(pictures), embedder.spec.dim)
        silent = np.isnan(vectors).all(axis=1)
        assert silent.tolist() == [number in self.silent for number in range(len(pictures))]
        assert np.allclose(np.linalg.norm(vectors[~silent].astype(np.float64), axis=1), 1, rtol=0, atol=1e-6)

    def test_no_pictures_are_no_rows(self, embedder: Embedder) -> None:
        assert embedder.embed([]).shape == (0, embedder.spec.dim)

    def test_different_pictures_have_different_vectors(self, embedder: Embedder) -> None:
        speaking = [picture for number, picture in enumerate(make_pictures()[:4]) if number not in self.silent]
        assert len({row.tobytes() for row in embedder.embed(speaking)}) == len(speaking)

    def test_a_row_does_not_depend_on_the_batch_or_its_order(self, embedder: Embedder) -> None:
        pictures = make_pictures()
        together = embedder.embed(pictures)
        self.assert_same(np.concatenate([embedder.embed([picture]) for picture in pictures]), together)
        self.assert_same(embedder.embed(pictures[::-1])[::-1], together)
        self.assert_same(embedder.embed([pictures[0], *pictures])[1:], together)

    def test_a_row_does_not_depend_on_the_number_of_threads(self, embedder: Embedder) -> None:
        pictures = make_pictures()
        rows = []
        for threads in (1, 2, 4):
            self.set_threads(threads)
            rows.append(embedder.embed(pictures))
        self.assert_same(rows[0], rows[1])
        self.assert_same(rows[0], rows[2])

    def test_two_embedders_of_the_same_settings_are_the_same(self, embedder: Embedder) -> None:
        other = self.create(dict(reversed(list(self.vector_settings.items()))))
        assert other.spec.fingerprint == embedder.spec.fingerprint
        self.assert_same(other.embed(make_pictures()), embedder.embed(make_pictures()))

    def test_pictures_are_left_as_they_are(self, embedder: Embedder) -> None:
        pictures = make_pictures()
        for picture in pictures:
            picture.flags.writeable = False
        embedder.embed(pictures)

    def test_pixels_may_lie_in_memory_as_they_like(self, embedder: Embedder) -> None:
        picture = make_pictures()[0]
        wide = np.zeros((40, 120, 3), np.uint8)
        wide[:, ::2] = picture
        self.assert_same(embedder.embed([wide[:, ::2]]), embedder.embed([picture]))

    def test_every_parameter_changes_the_fingerprint(self, embedder: Embedder) -> None:
        others = [
            create_embedder(self.modality, {**self.vector_settings, **change}, self.models_dir)
            for change in self.changes
        ]
        fingerprints = {embedder.spec.fingerprint, *(other.spec.fingerprint for other in others)}
        assert len(fingerprints) == 1 + len(self.changes)

    def test_the_fingerprint_is_the_same_in_another_process(self, embedder: Embedder) -> None:
        models = [] if self.models_dir is None else [str(self.models_dir)]
        fingerprints = {
            subprocess.run(
                [sys.executable, "-c", PRINT_FINGERPRINT, self.modality, repr(dict(self.vector_settings)), *models],
                env={"PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for seed in ("1", "2")
        }
        assert fingerprints == {embedder.spec.fingerprint}
