"""What can be wrong with the choice of an embedder."""

from storage.errors import ImgrecError


class UnknownEmbedderError(ImgrecError, LookupError):
    """No embedder has this name."""


class EmbedderParameterError(ImgrecError, ValueError):
    """A parameter of an embedder is out of range."""
