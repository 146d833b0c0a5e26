"""Errors a user can act on. Each message is one line that names the thing and the remedy."""

# Statuses of images that end the worker process that decodes them.
CRASHED_DECODER, DECODER_HANGS, OUT_OF_MEMORY = "crashed_decoder", "decoder_hangs", "out_of_memory"
TOO_LARGE, UNREADABLE, NOT_AN_IMAGE = "too_large", "unreadable", "not_an_image"


class ImgrecError(Exception):
    """Base of every error that the command line prints as one line, without a traceback."""


class LibraryNotFoundError(ImgrecError, FileNotFoundError):
    """There is no library at this path."""


class LibraryFormatError(ImgrecError, ValueError):
    """The library was written by a newer version, or its library.json is damaged."""


class LibraryLockedError(ImgrecError, BlockingIOError):
    """Another writer holds the library."""


class MachineError(ImgrecError, OSError):
    """The machine refuses what a run needs: space, memory, open files, permission."""


class PhotoRootError(ImgrecError, FileNotFoundError):
    """The folder of photos is not there, or is not the one this library was made of."""


class PhotosVanishedError(ImgrecError):
    """So many photos are gone at once that a missing disk is likelier than a clean-up."""


class VectorSettingsError(ImgrecError, ValueError):
    """A setting that changes vectors differs from the one the library was created with."""


class ImageError(ImgrecError, ValueError):
    """One image cannot be used; `status` is its row's status, the message its reason."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class ImageChangedError(ImgrecError):
    """A file is no longer what the scan saw; the next ingest takes it."""


class IgnoreFileError(ImgrecError, ValueError):
    """A folder's file of patterns cannot be read, or a line of it is none."""


class FilterError(ImgrecError, ValueError):
    """What is said of the photos that may be hits is no condition on them."""


class ShardError(ImgrecError, ValueError):
    """A shard file is damaged, foreign or incomplete."""


class ThumbnailsDamagedError(ImgrecError, ValueError):
    """A file of thumbnails is damaged."""
