"""What can be wrong with the choice of an embedder."""

import re

from imgrec.storage.errors import ImgrecError


class UnknownEmbedderError(ImgrecError, LookupError):
    """No embedder has this name."""


class DuplicateEmbedderError(ImgrecError, ValueError):
    """Two embedders have the same name, so nobody knows which one made a vector."""


class EmbedderParameterError(ImgrecError, ValueError):
    """A parameter of an embedder is out of range."""


class ModelFileError(ImgrecError, ValueError):
    """A file of learnt weights is missing, damaged, or not the one it is said to be."""


class EmbedderFailsError(ImgrecError, RuntimeError):
    """An embedder fails on every picture."""


class TooFewImagesError(ImgrecError, ValueError):
    """There are too few images to learn from."""


class DeviceError(ImgrecError, LookupError):
    """The device that models are to run on is not there."""


class MissingExtraError(ImgrecError, ImportError):
    """A library that this modality or device needs is in an extra that is not installed."""


class DeviceMemoryError(ImgrecError, RuntimeError):
    """The device that models run on has no memory left for one more."""


class ChunkRefusedError(ImgrecError):
    """A worker elsewhere refused a chunk, in words of its own; no other try would change that."""


def in_short(error: BaseException) -> str:
    """Why torch does not read a file, as one phrase; not how to run what is in it, which torch recommends at length."""
    if isinstance(error, EOFError):
        return "a file ends too early"
    if isinstance(error, StopIteration):
        return "there is nothing in it"
    if "TorchScript archives" in str(error):
        return "it is a program for TorchScript"
    lines = [line.strip() for line in str(error).rpartition("WeightsUnpickler error:")[2].splitlines() if line.strip()]
    # The list of keys that do not fit begins on the second line.
    said = " ".join(lines[: 2 if "state_dict" in str(error) else 1])
    phrase = re.split(r"\.\s", said)[0].rstrip(".")[:200]
    return phrase if " " in phrase else type(error).__name__  # a bare '101' is no reason
