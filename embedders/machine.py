"""What learned embedders take from the machine they run on."""

from dataclasses import dataclass
from pathlib import Path

from imgrec.storage.library import DEFAULT_MODELS_ROOT


@dataclass(frozen=True)
class Machine:
    """The folder of models that all libraries share, and the device: nothing that changes a vector."""

    models_root: Path = DEFAULT_MODELS_ROOT
    device: str = "auto"
