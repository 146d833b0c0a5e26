"""Raw pictures as small as a camera could make them: DNGs, of a sensor with red, green and blue filters."""

import io
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
_CODES = {BYTE: "B", ASCII: "B", SHORT: "H", LONG: "I", RATIONAL: "I", SRATIONAL: "i"}

Tags = Mapping[int, tuple[int, Sequence[int]]]


def dng(picture: Image.Image, preview: bytes | None = None, orientation: int = 1, version: bool = True) -> bytes:
    """A DNG of a picture, whose first directory is a thumbnail, with its sensor and a JPEG preview in further ones.

    Without a `version` it is what other cameras write: a TIFF with a make, and further directories.
    """
    pixels = np.asarray(picture.convert("RGB"), np.uint16) * 200
    sensor = pixels[:, :, 1].copy()
    sensor[0::2, 0::2], sensor[1::2, 1::2] = pixels[0::2, 0::2, 0], pixels[1::2, 1::2, 2]
    thumbnail = picture.convert("RGB").resize((12, 8))
    first: Tags = {
        254: (LONG, [1]), **_size(12, 8), 258: (SHORT, [8, 8, 8]), 259: (SHORT, [1]), 262: (SHORT, [2]),
        271: (ASCII, b"Acme\0"), 272: (ASCII, b"One\0"), 274: (SHORT, [orientation]), 277: (SHORT, [3]),
        **({50_706: (BYTE, [1, 4, 0, 0])} if version else {}), 50_708: (ASCII, b"Acme One\0"),
        50_721: (SRATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        50_728: (RATIONAL, [1, 1, 1, 1, 1, 1]), 50_778: (SHORT, [21]),
    }  # fmt: skip
    raw: Tags = {
        254: (LONG, [0]), **_size(picture.width, picture.height), 258: (SHORT, [16]), 259: (SHORT, [1]),
        262: (SHORT, [32_803]), 277: (SHORT, [1]), 33_421: (SHORT, [2, 2]), 33_422: (BYTE, [0, 1, 1, 2]),
        50_714: (SHORT, [0]), 50_717: (LONG, [255 * 200]),
    }  # fmt: skip
    further = [(raw, sensor.astype("<u2").tobytes())]
    if preview is not None:
        size = Image.open(io.BytesIO(preview)).size
        tags: Tags = {
            254: (LONG, [1]),
            **_size(*size),
            258: (SHORT, [8, 8, 8]),
            259: (SHORT, [7]),
            262: (SHORT, [6]),
            277: (SHORT, [3]),
        }
        further.append((tags, preview))
    return _tiff((first, np.asarray(thumbnail).tobytes()), further)


def _size(width: int, height: int) -> Tags:
    return {256: (LONG, [width]), 257: (LONG, [height]), 278: (LONG, [height])}


def _tiff(first: tuple[Tags, bytes], further: Sequence[tuple[Tags, bytes]]) -> bytes:
    file = bytearray(b"II*\0\0\0\0\0")
    starts = [_append(file, *directory) for directory in further]
    start = _append(file, {**first[0], 330: (LONG, starts)}, first[1])
    struct.pack_into("<I", file, 4, start)
    return bytes(file)


def _append(file: bytearray, tags: Tags, strip: bytes) -> int:
    """Append a strip of pixels and its directory; return where that begins."""
    tags = {**tags, 273: (LONG, [_put(file, strip)]), 279: (LONG, [len(strip)])}
    entries = b""
    for tag, (kind, values) in sorted(tags.items()):
        data = struct.pack(f"<{len(values)}{_CODES[kind]}", *values)
        count = len(values) // (2 if kind in (RATIONAL, SRATIONAL) else 1)
        value = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", _put(file, data))
        entries += struct.pack("<HHI", tag, kind, count) + value
    return _put(file, struct.pack("<H", len(tags)) + entries + bytes(4))


def _put(file: bytearray, data: bytes) -> int:
    file.extend(bytes(len(file) % 2))
    start = len(file)
    file.extend(data)
    return start
