"""Archives and descriptions that hold far more than they should are refused before they are unpacked or read."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.modalities.sift_codebook import read_codebook
from imgrec.embedders.models.archives import check_unpacked_size
from imgrec.embedders.models.dreamsim_adding import describe_dreamsim, unpack
from imgrec.embedders.models.dreamsim_types import ADAPTER_CONFIG, BACKBONES, TYPES
from imgrec.embedders.models.openclip_adding import Stated, add_openclip
from imgrec.embedders.models.openclip_config import CONFIG, read_config
from imgrec.embedders.models.store import find_model

KIND = "open_clip_vitb32"
NAME = f"dreamsim.{KIND}"
STATED = Stated("ViT-B-32", False, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", "shortest")
ZEROS = bytes(2**20)
MEGABYTES = 300
SAYS = r"is no archive of weights: its [\d,]+ bytes unpack to 314,572,800; get another copy"


def bomb(path: Path, inside: str) -> Path:
    """An archive of a third of a megabyte with a file of 300."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(inside, "w") as file:
        for _ in range(MEGABYTES):
            file.write(ZEROS)
    assert path.stat().st_size < 2**20
    return path


def test_an_archive_of_zeros_is_not_unpacked(tmp_path: Path) -> None:
    archive = bomb(tmp_path / "archive.zip", BACKBONES[KIND])
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(f"{TYPES[KIND].adapter}/{ADAPTER_CONFIG}", b"")
        packed.writestr(f"{TYPES[KIND].adapter}/adapter_model.safetensors", b"")
    with pytest.raises(ModelFileError, match=f"^archive.zip {SAYS}"):
        unpack(archive, tmp_path / "folder", NAME)
    assert not (tmp_path / "folder").exists()


def test_weights_that_are_such_an_archive_are_not_read(tmp_path: Path) -> None:
    bomb(tmp_path / "dreamsim" / "weights.pth", "archive/data/0")
    with pytest.raises(ModelFileError, match=rf"^weights\.pth of {NAME} {SAYS}"):
        describe_dreamsim(tmp_path / "dreamsim", NAME, "here")
    weights = bomb(tmp_path / "weights.pt", "archive/data/0")
    with pytest.raises(ModelFileError, match=SAYS):
        add_openclip(tmp_path / "models", "mine", weights, STATED)


def test_a_codebook_that_is_one_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=SAYS):
        read_codebook(bomb(tmp_path / "sift-abc.npz", "mean.npy"), "abc")
    (tmp_path / "sift-abc.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelFileError, match="is damaged"):
        read_codebook(tmp_path / "sift-abc.npz", "abc")


def test_what_weights_are_packed_to_passes() -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, np.random.default_rng(0).standard_normal(10**6).astype(np.float32))
    check_unpacked_size(buffer, "it")
    with np.load(buffer) as arrays:
        assert len(arrays["arr_0"]) == 10**6
    check_unpacked_size(io.BytesIO(b"no archive"), "it")


def test_a_description_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    for path in (tmp_path / CONFIG, tmp_path / "mine" / "model.json"):
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            file.truncate(10 * 2**30)
    with pytest.raises(ModelFileError, match=r"cannot be read .File too large"):
        read_config(tmp_path)
    with pytest.raises(ModelFileError, match=r"cannot be read .File too large"):
        find_model(tmp_path, "mine")
