"""What cameras write before they make a picture of it (DNG, CR2, NEF, …), read by LibRaw, where [raw] is installed."""

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from imgrec.storage.errors import NOT_AN_IMAGE, ImageError
from imgrec.storage.photos.formats import RAW, how_to_install, is_installed

if TYPE_CHECKING:
    import rawpy

_MAGIC = (
    b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR",
)  # fmt: skip
_TIFF = (b"II*\0", b"MM\0*")
_SHORT = 3
# https://www.loc.gov/preservation/digital/formats/content/tiff_tags.shtml
_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC, _MAKE, _SUB_IFDS, _DNG_VERSION = 254, 259, 262, 271, 330, 50_706
_OF_SENSORS = {_COMPRESSION: (32_767, 34_713, 65_535), _PHOTOMETRIC: (32_803, 34_892)}
# LibRaw's flips, as quarter turns to the left that make the picture upright.
_TURNS = {3: 2, 5: 1, 6: 3}


class Preview(NamedTuple):
    """A JPEG inside of a raw picture, and how often it is to be turned to the left if it does not say so itself."""

    jpeg: bytes
    turns: int


def is_raw(data: bytes) -> bool:
    """Whether it is a raw picture: by its first bytes, or what the first directory of a TIFF says."""
    if data.startswith(_MAGIC) or data[4:12] == b"ftypcrx " or (data[8:10] == b"CR" and data.startswith(_TIFF)):
        return True
    if not data.startswith(_TIFF):
        return False
    tags = _first_tags(data)
    if _DNG_VERSION in tags or any(tags.get(tag) in values for tag, values in _OF_SENSORS.items()):
        return True
    begins_small = _MAKE in tags and _SUB_IFDS in tags and bool(tags.get(_SUBFILE_TYPE, 0) & 1)
    return begins_small and (not is_installed(RAW) or _is_supported(data))


def raw_size(data: bytes) -> tuple[int, int]:
    """Width and height of the sensor's picture, in pixels.

    Raises:
        ImageError: `not_an_image` where the extra is missing, or `corrupt`.
    """
    with _opened(data) as raw:
        return raw.sizes.width, raw.sizes.height


def preview_of(data: bytes) -> Preview | None:
    """Return the largest JPEG that is inside, if there is one.

    Raises:
        ImageError: as `raw_size` does.
    """
    import rawpy

    with _opened(data) as raw:
        try:
            thumbnail = raw.extract_thumb()
        except (rawpy.LibRawNoThumbnailError, rawpy.LibRawUnsupportedThumbnailError):
            return None
        if thumbnail.format != rawpy.ThumbFormat.JPEG:
            return None
        return Preview(bytes(thumbnail.data), _TURNS.get(raw.sizes.flip, 0))


def develop(data: bytes) -> NDArray[np.uint8]:
    """Develop at half the size, each pixel of four of the sensor: RGB uint8 (H, W, 3), upright.

    Raises:
        ImageError: as `raw_size` does.
    """
    with _opened(data) as raw:
        return np.asarray(raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8), np.uint8)


def _is_supported(data: bytes) -> bool:
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)):
            return True
    except rawpy.LibRawFileUnsupportedError:
        return False  # a TIFF of another kind
    except rawpy.LibRawError:
        return True


@contextmanager
def _opened(data: bytes) -> "Iterator[rawpy.RawPy]":
    if not is_installed(RAW):
        raise ImageError(NOT_AN_IMAGE, f"it is {RAW.reads}, and needs an extra: {how_to_install(RAW)}")
    import rawpy

    try:
        with rawpy.imread(io.BytesIO(data)) as raw:
            yield raw
    except rawpy.LibRawUnsufficientMemoryError as error:
        raise MemoryError(str(error)) from error
    except (rawpy.LibRawError, rawpy.NotSupportedError) as error:
        text = error.args[0].decode("utf-8", "replace") if error.args and isinstance(error.args[0], bytes) else error
        raise ImageError("corrupt", f"LibRaw cannot decode this raw picture: {text}") from error


def _first_tags(data: bytes) -> dict[int, int]:
    """The tags of a TIFF's first directory, with the first value of those that have it inside (Pillow warns of others).

    https://developer.adobe.com/content/dam/udp/en/open/standards/tiff/TIFF6.pdf, pages 13 to 16
    """
    order = "<" if data.startswith(b"II") else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        entries = [struct.unpack_from(f"{order}HHI4s", data, start + 2 + 12 * number) for number in range(count)]
    except struct.error:
        return {}  # damaged: whoever decodes it says how
    return {
        tag: struct.unpack(f"{order}H", value[:2])[0] if kind == _SHORT else struct.unpack(f"{order}I", value)[0]
        for tag, kind, _, value in entries
    }
