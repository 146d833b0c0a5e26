"""A compressed modality is an embedder as any other, of the source that its encoder was learnt from and no other."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from imgrec.embedders.base import TextEmbedder
from imgrec.embedders.catalogue import create_embedder, model_files
from imgrec.embedders.compression.encoder import encoder_path
from imgrec.embedders.compression.linear import fit_random_projection
from imgrec.embedders.derived import DerivedEmbedder
from imgrec.embedders.errors import EmbedderParameterError, ModelFileError
from imgrec.embedders.work.deriving import derive_shard
from imgrec.storage.shards import NO_FEATURES, Failure, Shard
from tests.embedders.contract import EmbedderContract

COLOR = {"bins": [8, 8, 8], "decode_min_side": 448}
SOURCE = create_embedder("color", COLOR)
ENCODERS = [
    fit_random_projection(np.empty((0, 512), np.float32), 16, {"source": SOURCE.spec.fingerprint}, seed)
    for seed in (0, 1)
]
NAME = "color.rp16"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for encoder in ENCODERS:
        encoder.save(folder)
    return folder


def settings_of(digest: str) -> dict[str, Any]:
    return {**COLOR, "encoder:color.rp16": digest}


class TestCompressedContract(EmbedderContract):
    modality = NAME
    vector_settings: ClassVar[Mapping[str, Any]] = settings_of(ENCODERS[0].digest)
    changes: ClassVar[Sequence[Mapping[str, Any]]] = [{"encoder:color.rp16": ENCODERS[1].digest}]
    tolerance = 1e-6  # BLAS adds one row otherwise than many

    @pytest.fixture(autouse=True)
    def with_models(self, models_dir: Path) -> Iterator[None]:
        type(self).models_dir = models_dir
        yield
        type(self).models_dir = None


@pytest.fixture
def embedder(models_dir: Path) -> DerivedEmbedder:
    found = create_embedder(NAME, settings_of(ENCODERS[0].digest), models_dir)
    assert isinstance(found, DerivedEmbedder)
    return found


def test_vectors_of_another_source_are_refused(embedder: DerivedEmbedder, models_dir: Path) -> None:
    other = {**settings_of(ENCODERS[0].digest), "bins": [4, 4, 4]}
    with pytest.raises(EmbedderParameterError, match="was learnt from vectors of fingerprint"):
        create_embedder(NAME, other, models_dir)
    shard = Shard("color", "0" * 16, (b"a" * 32,), np.ones((1, 512), np.float32))
    with pytest.raises(EmbedderParameterError, match="is made of vectors of fingerprint"):
        derive_shard(embedder, shard, shard.contents)


def test_a_shard_is_derived_row_by_row_with_its_reasons(embedder: DerivedEmbedder) -> None:
    rows = np.random.default_rng(0).random((3, 512)).astype(np.float32)
    failures = (Failure(b"x" * 32, NO_FEATURES, "nothing"), Failure(b"y" * 32, NO_FEATURES, "nothing"))
    hashes = (b"a" * 32, b"b" * 32, b"c" * 32)
    shard = Shard("color", SOURCE.spec.fingerprint, hashes, rows, failures)
    made = derive_shard(embedder, shard, [hashes[2], hashes[0], failures[1].content_hash])
    assert (made.modality, made.fingerprint) == (NAME, embedder.spec.fingerprint)
    assert made.content_hashes == (hashes[0], hashes[2])
    assert made.failures == failures[1:]
    expected = rows[[0, 2]] @ ENCODERS[0].linear.T
    assert np.allclose(made.vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)


def test_a_row_of_nothing_is_a_reason_and_no_vector(embedder: DerivedEmbedder) -> None:
    shard = Shard("color", SOURCE.spec.fingerprint, (b"a" * 32,), np.zeros((1, 512), np.float32))
    made = derive_shard(embedder, shard, shard.contents)
    assert (made.content_hashes, [failure.status for failure in made.failures]) == ((), [NO_FEATURES])


def test_it_reads_words_only_where_its_source_does(embedder: DerivedEmbedder) -> None:
    assert not isinstance(embedder, TextEmbedder)


def test_a_damaged_encoder_is_told(models_dir: Path) -> None:
    path = encoder_path(models_dir, ENCODERS[1].digest)
    whole = path.read_bytes()
    settings = settings_of(ENCODERS[1].digest)
    assert model_files(settings, models_dir) == [path]
    from imgrec.embedders.catalogue import check_models

    for damaged in (whole[:100], whole[:-4] + b"\0\0\0\0", b"", b"\xff" * 40):
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError, match="is damaged"):
            check_models(settings, models_dir)
    path.unlink()
    with pytest.raises(ModelFileError, match="is missing"):
        check_models(settings, models_dir)
    path.write_bytes(whole)
    check_models(settings, models_dir)


def test_an_encoder_that_is_not_learnt_yet_is_told() -> None:
    with pytest.raises(ModelFileError, match=r"imgrec compress train color\.pca64"):
        create_embedder("color.pca64", COLOR)
