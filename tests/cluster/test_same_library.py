"""A cluster makes the library that this machine makes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import Driver
from tests.cluster.libraries import Vectors, vectors_of


def test_a_cluster_makes_the_same_library(
    imgrec: Callable[..., Driver], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In three arrays, since this cluster allows nine jobs each; a chunk that comes alone is a job without an array."""
    monkeypatch.setenv("IMGREC_MODALITIES", "color,sift,efficientnet")
    libraries = {name: tmp_path / name for name in ("local", "debug", "slurm")}
    for name, library in libraries.items():
        code, said = imgrec("ingest", pictures, "-l", library, "--executor", name, "--chunk-size", 8).end()
        assert code == 0, said
        assert "140 images embedded" in said
    local, *others = (vectors_of(library) for library in libraries.values())
    assert {name: len(vectors) for name, vectors in local.items()} == {"color": 140, "sift": 140, "efficientnet": 140}
    for other in others:
        assert_same(local, other)
    assert not (libraries["slurm"] / "submissions").exists()


def assert_same(one: Vectors, other: Vectors) -> None:
    for modality, vectors in one.items():
        assert other[modality].keys() == vectors.keys()
        for content, vector in vectors.items():
            if modality == "efficientnet":
                assert float(vector @ other[modality][content]) >= 0.99999
            else:
                assert vector.tobytes() == other[modality][content].tobytes()
