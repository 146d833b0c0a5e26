"""Put a DreamSim into the store of models: from a folder that the library has filled, or from its downloads."""

import shutil
import zipfile
import zlib
from collections.abc import Container, Sequence
from pathlib import Path

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.extras import DREAMSIM, check_learned
from imgrec.embedders.models.archives import check_unpacked_size
from imgrec.embedders.models.dreamsim_network import load_network
from imgrec.embedders.models.dreamsim_types import HUB, PREFIX, SIDE, TYPES, DreamSimType
from imgrec.embedders.models.store import StoredModel, describe_files, find_model, refuse_to_replace, stage

MODALITY = "dreamsim"
# What the code that torch.hub runs would download. The rest is in the library's own list, dreamsim.config.
_HUB_URL = "https://dl.fbaipublicfiles.com/"
HUB_URLS = {
    "dino_vitb16": f"{_HUB_URL}dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    "dinov2_vitb14": f"{_HUB_URL}dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
}


def add_dreamsim(models_root: Path, name: str, cache: Path, replace: bool = False) -> StoredModel:
    """Store the model `dreamsim.<type>` from a folder that the library has used as its `cache_dir`.

    Only the files that are needed are copied, and nothing in there is run.

    Raises:
        ModelFileError: there is no such type; a file is missing, damaged, not finite, or of another architecture; or
            another model of that name is there, and not to be replaced. Nothing is stored then.
    """
    check_learned(name, DREAMSIM)
    kind = type_of(name)
    there = [path for path in (*kind.files, *kind.adapter_weights) if (cache / path).is_file()]
    wanted = _choose(kind, there, cache)
    with stage(models_root, name) as folder:
        for path in wanted:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(cache / path, folder / path)
        model = describe_dreamsim(folder, name, f"added from {cache.resolve()}")
        if not replace:
            refuse_to_replace(models_root, model)
    return find_model(models_root, name)


def download_urls(name: str) -> list[str]:
    """Where the model `dreamsim.<type>` is: an archive, and what else the library has torch.hub fetch.

    Raises:
        ModelFileError: there is no such type.
    """
    kind = type_of(name)
    from dreamsim.config import dreamsim_weights

    archive: str = dreamsim_weights[name.removeprefix(PREFIX)]
    return [archive, *(HUB_URLS[backbone] for backbone in kind.backbones if backbone in HUB_URLS)]


def store_downloads(folder: Path, name: str, downloads: Sequence[Path], origin: str) -> StoredModel:
    """Make a staged folder of what is at `download_urls`, in their order.

    Raises:
        ModelFileError: a file is damaged, not finite, or of another architecture; or the archive lacks one.
    """
    archive, *others = downloads
    unpack(archive, folder, name)
    for path in others:
        (folder / HUB).mkdir(exist_ok=True)
        path.rename(folder / HUB / path.name)
    return describe_dreamsim(folder, name, origin)


def describe_dreamsim(folder: Path, name: str, origin: str) -> StoredModel:
    """Load what lies in a folder and embed a picture with it; if all is well, write down what it is.

    Raises:
        ModelFileError: a file is missing, damaged, not finite, or of another architecture.
    """
    import torch

    kind = type_of(name)
    for path in folder.rglob("*.pt*"):
        _check_sums(path, name)
    with torch.inference_mode():
        rows = load_network(folder, name, "cpu")(torch.zeros(1, 3, SIDE, SIDE))
    if rows.shape != (1, kind.dim) or not bool(torch.isfinite(rows).all()):
        raise ModelFileError(f"{name} makes {rows.shape[1]} numbers, not {kind.dim} finite ones: get another copy")
    described = StoredModel(name, MODALITY, kind.dim, {}, kind.licence, origin, describe_files(folder), folder)
    described.save()
    return described


def unpack(archive: Path, folder: Path, name: str) -> None:
    """Take the files of `dreamsim.<type>` out of the archive that the library downloads for it.

    Nothing else is unpacked, whatever else is in there. The files of torch.hub are not.

    Raises:
        ModelFileError: the archive is damaged, or lacks one.
    """
    try:
        with archive.open("rb") as file, zipfile.ZipFile(file) as packed:
            check_unpacked_size(file, archive.name)
            for path in _choose(type_of(name), packed.namelist(), archive, hub=False):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                with packed.open(path) as source, (folder / path).open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ModelFileError(f"{archive.name} is no archive of {name}, or a damaged one: {error}") from error


def _check_sums(path: Path, name: str) -> None:
    """Compare the sums inside of what torch saved, which it does not do itself: nobody publishes those of the file."""
    if zipfile.is_zipfile(path):
        with path.open("rb") as file, zipfile.ZipFile(file) as saved:
            check_unpacked_size(file, f"{path.name} of {name}")
            damaged = saved.testzip()
        if damaged is not None:
            raise ModelFileError(f"{path.name} of {name} is damaged: {damaged} in it is not what was saved")


def type_of(name: str) -> DreamSimType:
    """The type that a stored model is of, by its name.

    Raises:
        ModelFileError: there is no such type.
    """
    if name not in (known := [PREFIX + kind for kind in TYPES]):
        raise ModelFileError(f"there is no {name}: there are {', '.join(known)}")
    return TYPES[name.removeprefix(PREFIX)]


def _choose(kind: DreamSimType, there: Container[str], where: Path, hub: bool = True) -> Sequence[str]:
    adapter = next((path for path in kind.adapter_weights if path in there), kind.adapter_weights[0])
    wanted = [path for path in (*kind.files, adapter) if hub or not path.startswith(HUB)]
    for path in wanted:
        if path not in there:
            raise ModelFileError(f"{where} has no {path}")
    return wanted
