"""DreamSims on their way into the store: whole, of the right architecture, and never run."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.machine import Machine
from imgrec.embedders.modalities.dreamsim import DreamSimEmbedder
from imgrec.embedders.models.dreamsim_adding import HUB_URLS, add_dreamsim, download_urls, unpack
from imgrec.embedders.models.dreamsim_types import ADAPTER_CONFIG, BACKBONES, HUB, TYPES
from imgrec.embedders.models.sources import fetch_model
from imgrec.embedders.models.store import list_models
from tests.embedders.contract import make_pictures
from tests.embedders.dreamsim_files import NARROW, write_backbone

KIND = "open_clip_vitb32"
NAME = f"dreamsim.{KIND}"
BACKBONE, ADAPTER = BACKBONES[KIND], TYPES[KIND].adapter
SAFETENSORS, PICKLED = f"{ADAPTER}/adapter_model.safetensors", f"{ADAPTER}/adapter_model.bin"


pytestmark = pytest.mark.usefixtures("narrow_dreamsim")


@pytest.fixture
def cache(narrow_cache: Path, tmp_path: Path) -> Path:
    """A copy of the library's folder whose files may be replaced, though not written into."""
    return Path(shutil.copytree(narrow_cache, tmp_path / "cache", copy_function=os.link))


class Program:
    """What a pickle may do to whoever loads it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def truncate(cache: Path) -> None:
    replace(cache / BACKBONE, (cache / BACKBONE).read_bytes()[:-1_000])


def flip(cache: Path) -> None:
    data = bytearray((cache / BACKBONE).read_bytes())
    data[len(data) // 2] ^= 0x40
    replace(cache / BACKBONE, bytes(data))


def other_patches(cache: Path) -> None:
    (cache / BACKBONE).unlink()
    write_backbone(cache / BACKBONE, "open_clip_vitb16", NARROW)


def not_finite(cache: Path) -> None:
    change_weights(cache, lambda weights: weights["state_dict"]["blocks.3.mlp.fc1.bias"].fill_(float("nan")))


def without_projection(cache: Path) -> None:
    change_weights(cache, lambda weights: weights["state_dict"].pop("proj"))


def bare(cache: Path) -> None:
    change_weights(cache, lambda weights: weights.pop("state_dict"))


def program(cache: Path) -> None:
    save(cache / BACKBONE, {"state_dict": Program(cache / "it has run")})


def program_in_the_adapter(cache: Path) -> None:
    (cache / SAFETENSORS).unlink()
    save(cache / PICKLED, Program(cache / "it has run"))


def change_weights(cache: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    import torch

    weights = torch.load(cache / BACKBONE, weights_only=True)
    change(weights)
    save(cache / BACKBONE, weights)


def save(path: Path, content: Any) -> None:
    import torch

    path.unlink(missing_ok=True)
    torch.save(content, path)


def other_layers(cache: Path) -> None:
    change_adapter(cache, lambda key: key.replace("blocks.11.", "blocks.12."))


def fewer_layers(cache: Path) -> None:
    change_adapter(cache, lambda key: None if "blocks.11." in key else key)


def change_adapter(cache: Path, rename: Callable[[str], str | None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(cache / SAFETENSORS)
    (cache / SAFETENSORS).unlink()
    save_file({new: tensor for key, tensor in weights.items() if (new := rename(key))}, cache / SAFETENSORS)


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (lambda cache: (cache / BACKBONE).unlink(), rf"cache has no {BACKBONE}$"),
    (lambda cache: (cache / SAFETENSORS).unlink(), rf"cache has no {SAFETENSORS}$"),
    (lambda cache: (cache / ADAPTER / ADAPTER_CONFIG).unlink(), rf"cache has no {ADAPTER}/{ADAPTER_CONFIG}$"),
    (lambda cache: replace(cache / BACKBONE, b""), f"{NAME} is damaged, or another model: a file ends too early"),
    (truncate, f"{NAME} is damaged, or another model: PytorchStreamReader failed"),
    (flip, f"{BACKBONE} of {NAME} is damaged: .* in it is not what was saved"),
    (other_patches, f"{NAME} is damaged, or another model: .*size mismatch for pos_embed"),
    (not_finite, f"{NAME} is damaged: it has weights that are not finite numbers"),
    (without_projection, f"{NAME} is damaged, or another model: no 'proj'"),
    (bare, f"{NAME} is damaged, or another model: no 'state_dict'"),
    (program, f"{NAME} is damaged, or another model: Unsupported "),
    (program_in_the_adapter, f"{NAME} is damaged, or another model: Unsupported "),
    (other_layers, rf"{NAME} is damaged, or another model: an adapter of other layers: .*blocks\.11\."),
    (fewer_layers, rf"{NAME} is damaged, or another model: an adapter of other layers: .*blocks\.11\."),
    (lambda cache: replace(cache / SAFETENSORS, b"12345678{"), f"{NAME} is damaged, or another model: .*header"),
    (lambda cache: replace(cache / ADAPTER / ADAPTER_CONFIG, b"{}"), f"{NAME} is damaged, or another model: no 'r'"),
    (
        lambda cache: replace(cache / ADAPTER / ADAPTER_CONFIG, b"{"),
        f"{NAME} is damaged, or another model: Expecting property name",
    ),
]


@pytest.mark.parametrize(("damage", "reason"), DAMAGE)
def test_what_is_no_such_model_is_told_in_a_line_and_not_stored(
    cache: Path, tmp_path: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(cache)
    with pytest.raises(ModelFileError, match=reason) as raised:
        add_dreamsim(tmp_path / "models", NAME, cache)
    assert "\n" not in str(raised.value)
    assert list_models(tmp_path / "models") == []
    assert not (cache / "it has run").exists()


@pytest.mark.parametrize("name", ["dreamsim.dino_vitb16_patch", "dreamsim.", "dreamsim.../ensemble"])
def test_a_type_that_is_none_is_told_with_those_that_there_are(cache: Path, tmp_path: Path, name: str) -> None:
    said = rf"^there is no {name}: there are dreamsim.clip_vitb32, .*ensemble"
    with pytest.raises(ModelFileError, match=said):
        add_dreamsim(tmp_path / "models", name, cache)
    with pytest.raises(ModelFileError, match=said):
        fetch_model(tmp_path / "models", name)


def test_only_what_is_needed_is_stored(cache: Path, tmp_path: Path) -> None:
    (cache / "hubconf.py").write_text("raise SystemExit('it has run')")
    model = add_dreamsim(tmp_path / "models", NAME, cache)
    assert [file.path for file in model.files] == sorted([BACKBONE, SAFETENSORS, f"{ADAPTER}/{ADAPTER_CONFIG}"])
    assert (model.modality, model.dim, model.licence) == ("dreamsim", 512, "MIT")
    assert model.card == {"name": NAME, "digest": model.digest, "dim": 512}
    model.check()


def test_either_file_of_an_adapter_makes_the_same_vectors(cache: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    rows = []
    for root in (tmp_path / "safetensors", tmp_path / "pickled"):
        embedder = DreamSimEmbedder(add_dreamsim(root, NAME, cache).card, 448)
        embedder.load(Machine(root, "cpu"))
        rows.append(embedder.embed(make_pictures()[:2]))
        if root.name == "safetensors":
            save(cache / PICKLED, load_file(cache / SAFETENSORS))
            (cache / SAFETENSORS).unlink()
    assert np.array_equal(rows[0], rows[1])


# Fetched


def pack(cache: Path, archive: Path) -> Path:
    """An archive as the library downloads it, and what nobody should unpack."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in (BACKBONE, SAFETENSORS, f"{ADAPTER}/{ADAPTER_CONFIG}"):
            packed.write(cache / path, path)
        packed.writestr("../outside", b"")
        packed.writestr("hubconf.py", b"")
    return archive


def test_an_archive_is_fetched_and_no_more_unpacked_than_is_needed(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamsim.config import dreamsim_weights

    archive = pack(cache, tmp_path / "archive.zip")
    whole = archive.read_bytes()
    monkeypatch.setitem(dreamsim_weights, KIND, archive.as_uri())
    archive.write_bytes(whole[:-100])
    with pytest.raises(ModelFileError, match=rf"^archive.zip is no archive of {NAME}, or a damaged one"):
        fetch_model(tmp_path / "models", NAME)
    assert list_models(tmp_path / "models") == []
    archive.write_bytes(whole)
    model = fetch_model(tmp_path / "models", NAME)
    assert [file.path for file in model.files] == sorted([BACKBONE, SAFETENSORS, f"{ADAPTER}/{ADAPTER_CONFIG}"])
    assert model.origin == archive.as_uri()
    assert not list(tmp_path.rglob("outside"))
    assert model.digest == add_dreamsim(tmp_path / "added", NAME, cache).digest


def test_a_damaged_archive_is_told(cache: Path, tmp_path: Path) -> None:
    archive = pack(cache, tmp_path / "archive.zip")
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    with pytest.raises(ModelFileError, match=f"or a damaged one: Bad CRC-32 for file '{BACKBONE}'"):
        unpack(archive, tmp_path / "folder", NAME)
    with zipfile.ZipFile(archive, "w"):
        pass
    with pytest.raises(ModelFileError, match=rf"archive.zip has no {BACKBONE}$"):
        unpack(archive, tmp_path / "folder", NAME)


def test_all_that_is_needed_of_a_type_is_downloaded() -> None:
    for kind in TYPES:
        archive, *others = download_urls(f"dreamsim.{kind}")
        assert archive.startswith("https://github.com/ssundaram21/dreamsim/releases/download/")
        hub = [path for path in TYPES[kind].files if path.startswith(HUB)]
        assert [HUB + url.rpartition("/")[2] for url in others] == hub
    assert {BACKBONES[name].startswith(HUB) for name in HUB_URLS} == {True}
