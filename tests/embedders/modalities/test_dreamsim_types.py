"""DreamSims in their real size, from the folder that the library fills, through the store, to the library's vectors."""

from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.dreamsim import DreamSimEmbedder
from imgrec.embedders.models.dreamsim_adding import add_dreamsim
from imgrec.embedders.models.dreamsim_types import TYPES
from tests.embedders.dreamsim_files import reference, write_cache, write_hub
from tests.embedders.learned import median_cosine, photos

KINDS = [pytest.param(kind, marks=[] if kind == "open_clip_vitb32" else pytest.mark.slow) for kind in TYPES]


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_those_of_the_library(tmp_path: Path, kind: str) -> None:
    write_hub(write_cache(tmp_path / "cache", kind))
    pictures = photos()[3:7]
    golden = reference(tmp_path / "cache", kind, pictures)
    assert median_cosine(golden) < 0.5  # or else wrong code could pass
    model = add_dreamsim(tmp_path / "models", f"dreamsim.{kind}", tmp_path / "cache")
    embedder = DreamSimEmbedder(model.card, 448)
    embedder.load(Machine(tmp_path / "models", "cpu"))
    assert golden.shape == (4, model.dim)
    assert np.abs(embedder.embed(pictures) - golden).max() <= 1e-5
