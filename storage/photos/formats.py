"""Which files are photos: suffixes say which are opened, first bytes what they are and what reads them."""

import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from typing import NamedTuple

# Films, and all else that has a suffix of its own, are never opened.
SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff",
    ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx",
})  # fmt: skip


class Extra(NamedTuple):
    """What `pip install 'image-recommender[name]'` lets be read: by the package `module`."""

    name: str
    module: str
    reads: str
    suffixes: frozenset[str]


HEIF = Extra("heif", "pillow_heif", "a HEIF picture", frozenset({".heic", ".heif", ".hif"}))
JXL = Extra("jxl", "pillow_jxl", "a JPEG XL", frozenset({".jxl"}))
RAW = Extra("raw", "rawpy", "a camera's raw picture", frozenset({
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".rwl", ".pef",
    ".srw", ".3fr", ".fff", ".erf", ".kdc", ".dcr", ".mos", ".mef", ".mrw", ".iiq", ".x3f",
}))  # fmt: skip
EXTRAS = (HEIF, JXL, RAW)

# Of a file without a suffix, what it has to begin with to be read at all: an offset and bytes.
_BEGINS = (
    (0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n"), (0, b"GIF8"), (8, b"WEBP"), (0, b"II*\0"), (0, b"MM\0*"),
    (0, b"II+\0"), (0, b"MM\0+"), (0, b"\xff\x4f\xff\x51"), (4, b"jP  \r\n\x87\n"), (4, b"JXL \r\n\x87\n"),
    (0, b"FUJIFILMCCD-RAW"), (0, b"IIRO"), (0, b"IIRS"), (0, b"MMOR"), (0, b"IIU\0"), (0, b"FOVb"), (0, b"\0MRM"),
    (6, b"HEAPCCDR"),
)  # fmt: skip
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_PICTURE_BRANDS = (*_HEIF_BRANDS, b"avif", b"avis", b"crx ")
_NETPBM = re.compile(rb"P(?:[1-6fF]\s+(?:#|-?[0-9])|7\s)")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
HEAD_BYTES = 32


def photo_suffixes() -> frozenset[str]:
    """The file suffixes that count as photos: those of an extra only where it is installed."""
    return SUFFIXES.union(*(extra.suffixes for extra in EXTRAS if is_installed(extra)))


def describe_extras(suffixes: Mapping[str, int]) -> list[str]:
    """Say of files that are left alone, counted by suffix, which extra would read them."""
    lines = []
    for extra in EXTRAS:
        left = {suffix: count for suffix, count in suffixes.items() if suffix in extra.suffixes}
        if left and not is_installed(extra):
            lines.append(
                f"{sum(left.values()):,} {', '.join(sorted(left))} left: {how_to_install(extra)} reads such files"
            )
    return lines


def needed_extra(head: bytes) -> Extra | None:
    """The extra that content with this beginning needs, if it is not installed."""
    found = None
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        found = HEIF
    elif head.startswith(b"\xff\x0a") or head[4:12] == b"JXL \r\n\x87\n":
        found = JXL
    return None if found is None or is_installed(found) else found


def how_to_install(extra: Extra) -> str:
    return f"`pip install 'image-recommender[{extra.name}]'`"


def names_installed_extra(reason: str) -> bool:
    """Whether a failure's reason names an extra that is there now."""
    return any(how_to_install(extra) in reason for extra in EXTRAS if is_installed(extra))


def looks_like_a_picture(head: bytes) -> bool:
    """Whether the first `HEAD_BYTES` of a file may be those of a picture of any kind, its extra installed or not."""
    if any(head.startswith(magic, offset) for offset, magic in _BEGINS) or head.startswith(b"\xff\x0a"):
        return True
    if head[4:8] == b"ftyp":
        return head[8:12] in _PICTURE_BRANDS
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    return _NETPBM.match(head) is not None


@cache
def is_installed(extra: Extra) -> bool:
    return find_spec(extra.module) is not None
