"""What can go wrong between a query and its hits."""

from imgrec.storage.errors import ImgrecError


class IndexNotFoundError(ImgrecError, LookupError):
    """The library has no index of this name."""


class IndexDamagedError(ImgrecError, ValueError):
    """The files of an index version do not fit together."""


class MapNotFoundError(ImgrecError, LookupError):
    """The library has no map of this index."""


class MapDamagedError(ImgrecError, ValueError):
    """The files of a map do not fit together."""


class QueryError(ImgrecError, ValueError):
    """A query is no image file and no known id."""


class BackupError(ImgrecError, ValueError):
    """A backup cannot be made there, or of this library."""


class SearcherClosedError(ImgrecError, ValueError):
    """A Searcher was used after it was closed."""
