"""Odd pictures, made of numbers: what the tests of one kind of oddity share with the folder of all."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageFilter

from tests.flows.nasty import encode
from tests.storage import icc
from tests.storage.raw_files import dng

Floats = NDArray[np.float64]


@cache
def blocks(width: int = 48, height: int = 32) -> Image.Image:
    """A picture whose eight orientations all differ, in large areas that survive lossy compression."""
    picture = Image.new("RGB", (width, height), (250, 250, 250))
    picture.paste((220, 20, 20), (0, 0, width // 2, height // 2))
    picture.paste((20, 20, 220), (width // 2, 0, width, height // 2))
    picture.paste((20, 160, 20), (0, height // 2, width // 2, height))
    return picture


def heif_is_written() -> bool:
    if find_spec("pillow_heif") is None:
        return False
    import pillow_heif

    pillow_heif.register_heif_opener()
    return bool(pillow_heif.libheif_info()["encoders"])


def white_art(number: int, colour: int = 255) -> Image.Image:
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (8 + 4 * number, 8, 40, 20 + 4 * number))
    art = Image.new("RGBA", mask.size, (colour, colour, colour, 0))
    art.putalpha(mask.filter(ImageFilter.GaussianBlur(2)))
    return art


DEEP: dict[str, Callable[[Floats], NDArray[Any]]] = {
    "floats to 65535": lambda ramp: (ramp * 65_535).astype(np.float32),
    "floats of temperatures": lambda ramp: (ramp * 60 - 30).astype(np.float32),
    "floats of an HDR picture": lambda ramp: (ramp * 4).astype(np.float32),
    "small floats": lambda ramp: (ramp * 1e9 + 1e9).astype(np.float32),
    "all of int32": lambda ramp: (ramp * (2**32 - 1) - 2**31).astype(np.int32),
    "large int32": lambda ramp: (ramp * (2**31 - 1)).astype(np.int32),
    "all of uint32": lambda ramp: (ramp * (2**32 - 1)).astype(np.uint32),
    "all of int16": lambda ramp: (ramp * 65_535 - 32_768).astype(np.int16),
}


def deep_tiff(values: NDArray[Any]) -> bytes:
    """Also of unsigned integers of 32 and signed ones of 16 bits, which Pillow reads and does not write."""
    if values.dtype not in (np.uint32, np.int16):
        return encode(Image.fromarray(values), "TIFF")
    bits = values.itemsize * 8
    data = bytearray(encode(Image.fromarray(values.astype(np.int32)), "TIFF"))
    tags = struct.unpack_from("<I", data, 4)[0] + 2
    for place in range(tags, tags + 12 * struct.unpack_from("<H", data, tags - 2)[0], 12):
        tag = struct.unpack_from("<H", data, place)[0]
        if tag == 258:  # bits
            struct.pack_into("<H", data, place + 8, bits)
        elif tag == 339:  # kind of numbers
            struct.pack_into("<H", data, place + 8, 1 if values.dtype == np.uint32 else 2)
        elif tag == 273:  # where the pixels are
            struct.pack_into("<I", data, place + 8, len(data))
        elif tag == 279:
            struct.pack_into("<I", data, place + 8, values.nbytes)
    return bytes(data) + values.tobytes()


def netpbm(kind: str) -> bytes:
    """The picture of `blocks` in one of the six formats of netpbm, those of text too."""
    mode = {"1": "1", "2": "L", "3": "RGB", "4": "1", "5": "L", "6": "RGB"}[kind[1]]
    binary = encode(blocks().convert(mode), "PPM")
    if kind in ("P4", "P5", "P6"):
        return binary
    values = np.asarray(blocks().convert(mode)).astype(int).ravel()
    if kind == "P1":
        return b"P1 48 32\n" + b" ".join(b"%d" % (1 - value) for value in values)
    return kind.encode() + b"\n# of text\n48 32\n255\n" + b" ".join(b"%d" % value for value in values)


def mpo() -> bytes:
    return encode(blocks(), "MPO", quality=95, save_all=True, append_images=[blocks()])


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """Soft colours, which every profile has."""
    random = np.random.default_rng(0).integers(30, 226, (4, 6, 3), np.uint8)
    return Image.fromarray(random).resize((width, height), Image.Resampling.BICUBIC)


def twin_of(made: Image.Image, profile: bytes) -> Image.Image:
    """The same colours by the numbers that they have in a profile."""
    source, target = (ImageCms.ImageCmsProfile(io.BytesIO(each)) for each in (SRGB, profile))
    return ImageCms.buildTransform(source, target, "RGB", "RGB").apply(made)


SRGB = icc.rgb_profile(*icc.SRGB)


MEGABYTE = 2**20

LARGE = bytes(3 * MEGABYTE)

HUGE = bytes(40 * MEGABYTE)


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    right = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", right if checksum is None else checksum)


def with_chunk(png: bytes, made: bytes, before: bytes = b"IDAT") -> bytes:
    place = png.index(before) - 4
    return png[:place] + made + png[place:]


HARMLESS = {
    "a large text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LARGE)),
    "a huge text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(HUGE)),
    "a large XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LARGE)),
    "a huge XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(HUGE)),
    "a large profile": chunk(b"iCCP", b"profile\0\0" + zlib.compress(LARGE)),
    "a huge profile": chunk(b"iCCP", b"profile\0\0" + zlib.compress(HUGE)),
    "a profile that is none": chunk(b"iCCP", b"no end"),
    "a compression that is none": chunk(b"zTXt", b"Comment\0\7" + b"text"),
    "a text with a bad checksum": chunk(b"tEXt", b"Comment\0text", checksum=1),
    "transparency with a bad checksum": chunk(b"tRNS", bytes(6), checksum=1),
    "a resolution that is too short": chunk(b"pHYs", b"\0"),
    "many texts": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(15 * MEGABYTE))) * 5,
}


# Of each extra: no more than how its files begin, but for the raw picture.
CONTENTS = {
    "heif": b"\0\0\0 ftypheic\0\0\0\0mif1heic" + bytes(99),
    "jxl": b"\xff\x0a" + bytes(99),
    "raw": dng(blocks()),
}
