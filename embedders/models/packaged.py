"""The model that comes with this package: efficientnet's. The store of models has all others."""

from dataclasses import dataclass

from imgrec.embedders.base import EmbedderSpec
from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.models.efficientnet_network import DATA, REMEDY, SHA256, read_file
from imgrec.embedders.models.store import ModelFile, StoredModel

NAME = "efficientnet"


@dataclass(frozen=True)
class PackagedModel(StoredModel):
    """A model that pip installed, as the store would describe it."""

    def check(self) -> None:
        """Read its files and compare their SHA-256.

        Raises:
            ModelFileError: one is missing, or is not what was shipped.
        """
        for file in self.files:
            read_file(file.path)


def find_packaged(spec: EmbedderSpec) -> PackagedModel:
    """Describe efficientnet's model, whose embedder's `spec` this is; reads none of its weights.

    Raises:
        ModelFileError: a file is not there.
    """
    try:
        files = tuple(ModelFile(name, (DATA / name).stat().st_size, digest) for name, digest in SHA256.items())
    except OSError as error:
        raise ModelFileError(f"{error.filename} cannot be read ({error.strerror}): {REMEDY}") from error
    return PackagedModel(NAME, NAME, spec.dim, {}, spec.licence, spec.origin, files, DATA)


def refuse_packaged(name: str) -> None:
    """Nobody has to bring it, and nobody can replace it.

    Raises:
        ModelFileError: this is its name.
    """
    if name == NAME:
        raise ModelFileError(f"{NAME} needs no fetching: its weights are inside image-recommender")
