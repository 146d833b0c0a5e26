"""Where `imgrec compress tune` looks for a better autoencoder."""

from collections.abc import Mapping

# Every setting's choices: TPE draws among them, the grid takes all of their combinations, 144.
SPACE: Mapping[str, tuple[str | int | float, ...]] = {
    "depth": (0, 1, 2),
    "width": (128, 256, 512),
    "activation": ("silu", "relu"),
    "noise": (0.0, 0.3),
    "neighbour_share": (0.9, 0.99),
    "temperature": (0.02, 0.05),
}
# What all trials have.
FIXED: Mapping[str, int] = {"epochs": 12}
