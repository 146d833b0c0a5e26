"""What each method learns, and that an autoencoder's encoder is the same in numpy as in torch."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from imgrec.embedders.compression.encoder import read_encoder
from imgrec.embedders.compression.linear import fit_pca
from imgrec.embedders.compression.methods import METHODS, fit, parse_variant
from imgrec.embedders.errors import EmbedderParameterError
from imgrec.search.evaluation.compression import recall_at_10
from imgrec.search.evaluation.splitting import hold_out

FACTS = {"source": "f" * 16}


@pytest.fixture(scope="module")
def rows() -> NDArray[np.float32]:
    """Unit vectors near a curved sheet of two dimensions in 48, which no few directions hold."""
    random = np.random.default_rng(0)
    found = np.sin(random.random((800, 2)) @ random.standard_normal((2, 48)) * 5 + random.random(48) * 6)
    found += 0.02 * random.standard_normal((800, 48))
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


def test_pca_keeps_products_better_than_any_other_directions(rows: NDArray[np.float32]) -> None:
    matrix = fit_pca(rows, 8, FACTS).linear
    assert np.allclose(matrix @ matrix.T, np.eye(8), atol=1e-5)
    _, values, _ = np.linalg.svd(rows.astype(np.float64))
    assert np.isclose(np.square(rows @ matrix.T).sum(), np.square(values[:8]).sum(), rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_is_the_same_with_the_same_seed_and_in_its_file(
    method: str, rows: NDArray[np.float32], tmp_path: Path
) -> None:
    settings = {"epochs": 2, "width": 16, "batch_size": 128}
    one, two = (fit(method, rows, 8, FACTS, 3, settings) for _ in range(2))
    assert one.digest == two.digest
    one.save(tmp_path)
    kept = read_encoder(tmp_path, one.digest)
    assert kept.encode(rows).tobytes() == one.encode(rows).tobytes()
    assert kept.facts["source"] == FACTS["source"]
    assert np.allclose(np.linalg.norm(one.encode(rows), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "silu"])
def test_numpy_computes_what_torch_does(activation: str, rows: NDArray[np.float32]) -> None:
    import torch

    from imgrec.embedders.compression.autoencoder import AutoencoderSettings, _Network

    torch.manual_seed(0)
    network = _Network(fit_pca(rows, 8, FACTS), AutoencoderSettings(depth=2, width=16, activation=activation), "cpu")
    for parameter in network.parameters:
        torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        expected = network.encode(torch.from_numpy(rows)).numpy()
    assert np.allclose(network.encoder(FACTS).encode(rows), expected, atol=1e-5)


def test_the_autoencoder_keeps_more_neighbours_than_pca_of_unseen_rows(rows: NDArray[np.float32]) -> None:
    settings = {"epochs": 30, "width": 64, "batch_size": 128, "temperature": 0.05, "learning_rate": 3e-3, "patience": 9}
    kept = {
        method: recall_at_10(rows[600:], fit(method, rows[:600], 3, FACTS, 0, settings).encode(rows[600:]))
        for method in METHODS
    }
    assert kept["rp"] < kept["pca"] < kept["ae"]


def test_epochs_can_be_ended_from_outside(rows: NDArray[np.float32]) -> None:
    heard: list[int] = []

    def enough(epoch: int, recall: float) -> bool:
        assert 0 <= recall <= 1
        heard.append(epoch)
        return epoch == 1

    fit("ae", rows, 8, FACTS, 0, {"epochs": 9, "width": 16, "batch_size": 128, "patience": 9}, on_epoch=enough)
    assert heard == [0, 1]


def test_settings_out_of_range_are_told(rows: NDArray[np.float32]) -> None:
    for settings in ({"depth": 9}, {"activation": "step"}, {"neighbour_share": 2}):
        with pytest.raises(EmbedderParameterError, match=next(iter(settings))):
            fit("ae", rows, 8, FACTS, 0, settings)
    with pytest.raises(EmbedderParameterError, match="49 dimensions"):
        fit("pca", rows, 49, FACTS)


def test_names_say_source_method_and_dimensions() -> None:
    assert parse_variant("efficientnet.pca64") == ("efficientnet", "pca", 64)
    for wrong in ("efficientnet", "efficientnet.zip64", "efficientnet.pca0", "efficientnet.pca"):
        with pytest.raises(EmbedderParameterError, match="names no compressed modality"):
            parse_variant(wrong)


def test_recall_is_of_neighbours_and_near_copies_stay_on_one_side(rows: NDArray[np.float32]) -> None:
    assert recall_at_10(rows, rows) == 1
    assert recall_at_10(rows, np.random.default_rng(1).standard_normal(rows.shape).astype(np.float32)) < 0.1
    doubled = np.concatenate([rows, rows])
    held = hold_out(doubled, 0.2, 1_000, 0)
    left = np.setdiff1d(np.arange(len(doubled)), held.near)
    assert (rows[held.rows % 800] @ doubled[left].T).max() <= 0.98
    assert len(held.rows) == 320
