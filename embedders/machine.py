"""What learned embedders take from the machine they run on: nothing that changes a vector."""

from dataclasses import dataclass
from pathlib import Path

from imgrec.storage.library import DEFAULT_MODELS_ROOT


@dataclass(frozen=True)
class Machine:
    """The folder of models that all libraries share, the device, and how many images it is given at once."""

    models_root: Path = DEFAULT_MODELS_ROOT
    device: str = "auto"
    model_batch_size: int = 32
