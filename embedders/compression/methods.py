"""The methods of compression behind one function: vectors in, an encoder out."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.compression.encoder import Encoder
from imgrec.embedders.compression.linear import fit_pca, fit_random_projection
from imgrec.embedders.errors import EmbedderParameterError, MissingExtraError
from imgrec.embedders.extras import INSTALL_LEARNED, missing_of

METHODS = ("pca", "rp", "ae")
_VARIANT = re.compile(rf"({'|'.join(METHODS)})([1-9]\d*)")


def parse_variant(modality: str) -> tuple[str, str, int]:
    """Read `efficientnet.pca64` as its source, method and number of dimensions.

    Raises:
        EmbedderParameterError: it is not of that form.
    """
    source, _, variant = modality.partition(".")
    if not source or not (found := _VARIANT.fullmatch(variant)):
        raise EmbedderParameterError(
            f"{modality!r} names no compressed modality: SOURCE.METHOD and the number of dimensions, as "
            f"efficientnet.pca64; methods are {', '.join(METHODS)}"
        )
    return source, found[1], int(found[2])


def fit(
    method: str,
    rows: NDArray[np.float32],
    dim: int,
    facts: Mapping[str, Any],
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    on_epoch: Callable[[int, float], bool] = lambda epoch, recall: False,
) -> Encoder:
    """Learn an encoder to `dim` dimensions from unit rows (N, source dim); `settings` are the autoencoder's.

    Raises:
        EmbedderParameterError: there is no such method, or a setting is out of range.
        MissingExtraError: the autoencoder needs torch.
    """
    if method == "pca":
        return fit_pca(rows, dim, facts)
    if method == "rp":
        return fit_random_projection(rows, dim, facts, seed)
    if method != "ae":
        raise EmbedderParameterError(f"method = {method!r}: there are {', '.join(METHODS)}")
    if missing_of(["torch"]):
        raise MissingExtraError(f"the autoencoder needs torch, not installed here: `{INSTALL_LEARNED}`")
    from imgrec.embedders.compression.autoencoder import AutoencoderSettings, fit_autoencoder

    return fit_autoencoder(rows, dim, facts, seed, AutoencoderSettings(**(settings or {})), device, on_epoch)
