"""A model that makes no numbers of pictures: said for each of them, and nothing is stored."""

from pathlib import Path

import pytest

from imgrec.embedders.models.openclip_adding import add_openclip
from tests.embedders.openclip_files import write_folder
from tests.flows.conftest import Imgrec


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a model whose weights are finite, and whose last product is not."""
    from safetensors.torch import load_file, save_file

    folder = write_folder(tmp_path / "original")
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["visual.proj"] *= 1e37
    save_file(weights, folder / "open_clip_model.safetensors")
    root = tmp_path / "models"
    add_openclip(root, "large", folder)
    monkeypatch.setenv("IMGREC_MODELS_ROOT", str(root))
    return root


def test_every_picture_is_told_and_keeps_its_other_vectors(
    imgrec: Imgrec, photos: Path, library: Path, root: Path
) -> None:
    chosen = ("--modality", "color", "--modality", "openclip", "--openclip-model", "large")
    (report,) = imgrec("ingest", photos, "--library", library, *chosen, "--json").lines
    assert (report["failures"], report["images"]["ok"], report["embedded"]) == ({"not_finite": 6}, 6, 6)
    assert report["indexes"]["color"]["vectors"] == 6
    assert "openclip" not in report["indexes"]

    told = [line for line in imgrec("failures", "--library", library, "--json").lines if line["status"] == "not_finite"]

    assert len(told) == 6
    assert {line["reason"] for line in told} == {"openclip makes numbers of this picture that are not finite"}
    assert all("imgrec models check" in line["remedy"] for line in told)
    assert "openclip makes numbers" in imgrec("failures", "--library", library).out.replace("\n", " ")
    (again,) = imgrec("ingest", "--library", library, "--json").lines
    assert (again["retried"], again["failures"]) == (0, report["failures"])
    (asked,) = imgrec("ingest", "--library", library, "--retry-failed", "--json").lines
    assert (asked["retried"], asked["failures"], asked["images"]) == (6, report["failures"], report["images"])


def test_where_it_is_all_there_is_nothing_is_embedded(imgrec: Imgrec, photos: Path, library: Path, root: Path) -> None:
    chosen = ("--modality", "openclip", "--openclip-model", "large")
    (report,) = imgrec("ingest", photos, "--library", library, *chosen, "--json").lines
    assert (report["embedded"], report["failures"]["not_finite"], report["indexes"]) == (0, 6, {})
