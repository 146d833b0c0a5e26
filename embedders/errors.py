"""What can be wrong with the choice of an embedder."""

from storage.errors import ImgrecError


class UnknownEmbedderError(ImgrecError, LookupError):
    """No embedder has this name."""


class DuplicateEmbedderError(ImgrecError, ValueError):
    """Two embedders have the same name, so nobody knows which one made a vector."""


class EmbedderParameterError(ImgrecError, ValueError):
    """A parameter of an embedder is out of range."""


class ModelFileError(ImgrecError, ValueError):
    """A file of learnt weights is missing, damaged, or not the one it is said to be."""


class TooFewImagesError(ImgrecError, ValueError):
    """There are too few images to learn from."""


class DeviceError(ImgrecError, LookupError):
    """The device that models are to run on is not there."""
