"""A folder of odd files, and what becomes of each: `python -m tests.flows.odd_files FOLDER` writes it."""

import os
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from imgrec.storage.photos.formats import HEIF, JXL, RAW, Extra, is_installed
from tests.flows import nasty
from tests.flows.nasty import encode, noise, picture
from tests.storage import icc
from tests.storage.photos.makers import (
    CONTENTS,
    DEEP,
    HARMLESS,
    blocks,
    chunk,
    deep_tiff,
    heif_is_written,
    mpo,
    netpbm,
    scene,
    twin_of,
    white_art,
    with_chunk,
)
from tests.storage.pictures import backdate
from tests.storage.raw_files import dng

OK, EMPTY, CORRUPT, NO_IMAGE, TOO_LARGE, UNREADABLE = (
    "ok", "empty", "corrupt", "not_an_image", "too_large", "unreadable"
)  # fmt: skip
FAILED = {EMPTY, CORRUPT, NO_IMAGE, TOO_LARGE, UNREADABLE}
UNCOUNTED = "uncounted"
SYMLINK, SPECIAL, TWIN, NO_SUFFIX, LIBRARY = (
    f"other: {kind}" for kind in ("symlink", "device, socket or pipe", "macOS twin", "no suffix", "library")
)


class Odd(NamedTuple):
    """How a file is made, by its bytes or a function of its path; and its fate.

    That is `ok`, the status of a failure, or as what `ingest --json` counts it: `left out: RULE`, or `other: KIND`.
    """

    made: bytes | Callable[[Path], object]
    fate: str = OK


Files = dict[str | bytes, Odd]


def odd_files() -> Files:
    """Name (bytes where it is not UTF-8), slashes for folders → what is there; each folder of litter has one file."""
    kinds = (
        _nasty, _jpegs, _pngs, _tiffs, _other_formats, _of_extras, _profiles, _not_pictures, _names, _times, _litter,
        _of_rules, _special, _huge,
    )  # fmt: skip
    return {name: odd for kind in kinds for name, odd in kind().items()}


def write(folder: Path, files: Mapping[str | bytes, Odd]) -> None:
    for name, odd in files.items():
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(odd.made):
            odd.made(path)
        else:
            path.write_bytes(odd.made)
            backdate(path)


def _in(folder: str, files: Mapping[str, bytes], fate: str = OK) -> Files:
    return {f"{folder}/{name}": Odd(made, fate) for name, made in files.items()}


def _nasty() -> Files:
    """Every mode, orientation and shape, and what is empty, truncated, garbage or a bomb."""
    failing: Files = {f"nasty/{name}": Odd(made, fate) for name, (made, fate) in nasty.unusable().items()}
    return _in("nasty", nasty.usable()) | failing


def _jpegs() -> Files:
    sound = encode(noise(), "JPEG")
    exif = Image.Exif()
    exif[nasty.ORIENTATION_TAG] = 6
    return _in("jpeg", {
        "progressive.jpg": encode(noise(), "JPEG", progressive=True),
        "grey.jpg": encode(noise().convert("L"), "JPEG"),
        "subsampled.jpeg": encode(noise(), "JPEG", subsampling=2),
        "turned.jpg": encode(picture(31), "JPEG", exif=exif.tobytes()),
        "restarts.jpg": encode(noise(), "JPEG", restart_marker_rows=1),
        "no-end.jpg": sound[:-2],
        "half-an-end.jpg": sound[:-1],
        "zeros-for-an-end.jpg": sound[:-2] + bytes(4_096),
        "zeros-after-its-end.jpg": sound + bytes(4_096),
        "a-film-after-its-end.jpg": sound + b"\0\0\0\x18ftypmp42" + bytes(999),
        "suffix.jfif": encode(picture(32), "JPEG"),
        "suffix.JPE": encode(picture(33), "JPEG"),
        "suffix.mpo": mpo(),
        "two-pictures.jpg": mpo(),
    })  # fmt: skip


def _pngs() -> Files:
    sound = encode(noise(), "PNG")
    harmless = {f"{what}.png": with_chunk(sound, made, b"IDAT") for what, made in HARMLESS.items()}
    return _in("png", {
        **harmless,
        "2-bit.png": _png(4, 4, 2, 0, bytes([0, 0x1B] * 4)),
        "4-bit.png": _png(2, 4, 4, 0, bytes([0, 0x0F] * 4)),
        "16-bit-colour.png": _png(1, 2, 16, 2, bytes([0, 1, 2, 3, 4, 5, 6] * 2)),
        "16-bit-colour-alpha.png": _png(1, 2, 16, 6, bytes([0, 1, 2, 3, 4, 5, 6, 7, 8] * 2)),
        "interlaced.png": _png(1, 1, 8, 2, bytes([0, 200, 20, 20]), interlaced=True),
        "white-art.png": encode(white_art(1), "PNG"),
        "white-art.webp": encode(white_art(2), "WEBP", lossless=True),
        "white-art-in-grey.png": encode(white_art(3).convert("LA"), "PNG"),
    }) | _in("png", {
        "no-pixels.png": sound[: sound.index(b"IDAT")],
        "bad-checksum-of-its-size.png": sound[:29] + bytes(4) + sound[33:],
        "no-palette.png": _png(1, 1, 8, 3, bytes(2)).replace(b"IDAT", b"IDAX"),
    }, CORRUPT)  # fmt: skip


def _png(width: int, height: int, depth: int, colour: int, rows: bytes, interlaced: bool = False) -> bytes:
    """A PNG of any depth (https://www.w3.org/TR/png-3/#11IHDR); each row begins with a zero."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _tiffs() -> Files:
    ramp = np.linspace(0, 1, 4_096).reshape(64, 64)
    wide = Image.frombytes("I;16B", (64, 64), (ramp * 65_535).astype(">u2").tobytes())
    return _in("tiff", {
        **{f"{what}.tif": deep_tiff(make(ramp)) for what, make in DEEP.items()},
        "float-curve.tif": deep_tiff((ramp**3).astype(np.float32)),
        "not-a-number.tif": deep_tiff(np.where(ramp > 0.5, np.nan, ramp).astype(np.float32)),
        "16-bit-big-endian.tif": encode(wide, "TIFF"),
        "cmyk.tif": encode(picture(41).convert("CMYK"), "TIFF"),
        "lab.tif": encode(Image.new("LAB", (9, 9), (120, 140, 110)), "TIFF"),
        "palette.tif": encode(picture(42).quantize(8), "TIFF"),
        "big.tif": encode(picture(43), "TIFF", big_tiff=True),
        "fax.tiff": encode(picture(44).convert("1"), "TIFF", compression="group4"),
        **{f"{how}.tif": encode(picture(45), "TIFF", compression=how) for how in ("tiff_lzw", "jpeg", "packbits")},
    })  # fmt: skip


def _other_formats() -> Files:
    frames = {"save_all": True, "append_images": [picture(52)]}
    return _in("formats", {
        **{f"{kind}.p{'bgp'[int(kind[1]) % 3 - 1]}m": netpbm(kind) for kind in ("P1", "P2", "P3", "P4", "P5", "P6")},
        "16-bit.pgm": b"P5 64 1 65535\n" + np.linspace(0, 65_535, 64).astype(">u2").tobytes(),
        "float.pfm": encode(Image.fromarray(np.eye(9, dtype=np.float32)), "PPM"),
        "plain.gif": encode(picture(50), "GIF"),
        "moving.gif": encode(picture(51), "GIF", **frames),
        "moving.avif": encode(picture(51), "AVIF", **frames),
        "lossy.webp": encode(picture(53), "WEBP"),
        "lossless.webp": encode(picture(53), "WEBP", lossless=True),
        "plain.bmp": encode(picture(54), "BMP"),
        "1-bit.bmp": encode(picture(54).convert("1"), "BMP"),
        "plain.dib": encode(picture(55), "DIB"),
        "plain.avif": encode(picture(56), "AVIF"),
        "alpha.avif": encode(white_art(4), "AVIF"),
        "plain.jp2": encode(blocks(), "JPEG2000"),
        "plain.j2k": encode(blocks(), "JPEG2000", no_jp2=True),
        "plain.apng": encode(picture(57), "PNG", **frames),
        "NO SUFFIX": encode(scene(80, 60), "JPEG"),
        "IMG0001": encode(blocks(), "JPEG2000"),
        "IMG0002": encode(picture(58), "TIFF", big_tiff=True),
        "IMG0003": encode(picture(59), "AVIF"),
    })  # fmt: skip


def _of_extras() -> Files:
    """What needs an extra: without that, a suffix is counted, and content named otherwise is told by a reason."""
    raw = dng(blocks(480, 320))
    files: Files = {
        **_of_extra(RAW, ".dng", raw),
        **_of_extra(RAW, ".nef", dng(blocks(480, 320), encode(blocks(960, 640), "JPEG"), 6, version=False)),
    }
    if not is_installed(HEIF):
        files |= _of_extra(HEIF, ".heic", CONTENTS["heif"])
    elif heif_is_written():
        files |= _of_extra(HEIF, ".heic", encode(picture(61), "HEIF"))
    if is_installed(JXL):
        import pillow_jxl  # noqa: F401 - teaches Pillow to write it

        return files | _of_extra(JXL, ".jxl", encode(picture(62), "JXL", lossless=True))
    return files | _of_extra(JXL, ".jxl", CONTENTS["jxl"])


def _of_extra(extra: Extra, suffix: str, made: bytes) -> Files:
    there = is_installed(extra)
    files: Files = {f"extras/a{suffix}": Odd(made, OK if there else f"other: {suffix}")}
    if suffix != ".nef":  # which is a TIFF to who goes by its content
        files[f"extras/{suffix[1:]}-named.jpg"] = Odd(made, OK if there else NO_IMAGE)
    return files


def _profiles() -> Files:
    srgb = icc.rgb_profile(*icc.SRGB)
    spaces = {"p3": icc.DISPLAY_P3, "adobe-rgb": icc.ADOBE_RGB, "prophoto": icc.PROPHOTO}
    wide = {name: icc.rgb_profile(*space) for name, space in spaces.items()}
    broken = {
        "half": srgb[: len(srgb) // 2],
        "of-greys": icc.grey_profile(1.0),
        "garbage": np.random.default_rng(0).bytes(500),
    }
    inks = encode(scene().convert("CMYK"), "JPEG", icc_profile=icc.ink_profile(np.full((4, 3), 0.5)))
    return _in("profiles", {
        "srgb.png": encode(scene(), "PNG", icc_profile=srgb),
        **{f"{name}.png": encode(twin_of(scene(), made), "PNG", icc_profile=made) for name, made in wide.items()},
        **{f"{name}.jpg": encode(twin_of(scene(), made), "JPEG", icc_profile=made) for name, made in wide.items()},
        **{f"{name}.jpg": encode(scene(), "JPEG", icc_profile=made) for name, made in broken.items()},
        "inks.jpg": inks,
    })  # fmt: skip


def _not_pictures() -> Files:
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5_000)
    return {
        "not/empty.gif": Odd(b"", EMPTY),
        "not/film.jpg": Odd(film, NO_IMAGE),
        "not/film.heic.png": Odd(b"\x1aE\xdf\xa3" + bytes(5_000), NO_IMAGE),
        "not/text.png": Odd(b"my holiday\n" * 99, NO_IMAGE),
        "not/page.jpeg": Odd(b"<!DOCTYPE html><title>404</title>", NO_IMAGE),
        "not/pointer.jpg": Odd(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", NO_IMAGE),
        "not/archive.jpg": Odd(b"PK\x03\x04" + bytes(99), NO_IMAGE),
        "not/film.mp4": Odd(film, "other: .mp4"),
        "not/text.txt": Odd(b"my holiday", "other: .txt"),
        "not/drawing.svg": Odd(b"<svg/>", "other: .svg"),
        "not/download.jpg.part": Odd(encode(picture(63), "JPEG"), "other: .part"),
        "not/Makefile": Odd(b"all:\n", NO_SUFFIX),
        "not/nothing": Odd(b"", NO_SUFFIX),
        "not/.jpg": Odd(encode(picture(63), "JPEG"), NO_SUFFIX),
    }


NAMES: tuple[str | bytes, ...] = (
    b"caf\xe9.png", "caf\\xe9.png", b"\xff\xfe.png", b"\xed\xa0\xbd.png", "\\ud83d.png", "\\udce9.png",
    "line\nbreak.png", "tab\t.png", "\x1b[31mred.png", "back\\slash.png", "-rf.png", "--library.png", " before.png",
    "two  spaces.png", "it's.png", 'say "cheese".png', "$HOME `id`.png", "100%.png", "My%20Pictures.png", "%s%n.png",
    "[b]bold[/b].png", "[family].png", ":cat:.png", "id:1", "what?.png", "#1.png", "*.png", "~.png", "a:b.png",
    "a&b;c|d.png", "写真.png", "e\N{COMBINING ACUTE ACCENT}.png", "\N{LATIN SMALL LETTER E WITH ACUTE}.png",
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.png", "\N{CAMERA}\N{VARIATION SELECTOR-16}.png", "CASE.PNG", "case.png",
    "x" * 246 + ".png", "x.png/x.png", "d/" * 40 + ".png.png",
)  # fmt: skip


def _names() -> Files:
    return {
        (b"names/" + name if isinstance(name, bytes) else f"names/{name}"): Odd(encode(_area(number), "PNG"))
        for number, name in enumerate(NAMES)
    } | {"names/space after its suffix.png ": Odd(encode(picture(64), "PNG"), "other: .png ")}


def _area(number: int) -> Image.Image:
    """A picture whose colours are nobody else's."""
    values = np.random.default_rng(number).integers(0, 256, (2, 2, 3), np.uint8)
    return Image.fromarray(values).resize((32, 32), Image.Resampling.NEAREST)


def _times() -> Files:
    seconds = {
        "1901": -2_145_916_800, "1969": -1, "1970": 0, "2038": 2**31, "2261": 9_183_110_400, "2300": 10_413_792_000,
        "next-year": int(time.time()) + 31_536_000,
    }  # fmt: skip
    return {f"times/{name}.png": Odd(partial(_dated, number, at)) for number, (name, at) in enumerate(seconds.items())}


def _dated(number: int, seconds: int, path: Path) -> None:
    path.write_bytes(encode(_area(100 + number), "PNG"))
    os.utime(path, (seconds, seconds))


def _litter() -> Files:
    litter = encode(picture(71), "PNG")
    named = (
        "@eaDir", "@Recycle", "#recycle", "#snapshot", "lost+found", "$RECYCLE.BIN", "System Volume Information",
        "__MACOSX",
    )  # fmt: skip
    hidden = (".thumbnails", ".stversions", ".Trash-1000", ".hidden", "litter/.git")
    return {
        **{f"{folder}/a.png": Odd(litter, f"left out: {folder}/") for folder in named},
        **{f"{folder}/a.png": Odd(litter, "left out: .*/") for folder in hidden},
        "litter/._x.jpg": Odd(b"\0\5\x16\7" + bytes(99), TWIN),
        "litter/Thumbs.db": Odd(b"\xd0\xcf\x11\xe0", "other: .db"),
        "litter/.DS_Store": Odd(b"\0\0\0\1Bud1", NO_SUFFIX),
        "litter/desktop.ini": Odd(b"[.ShellClassInfo]", "other: .ini"),
        "litter/.hidden.png": Odd(encode(picture(72), "PNG")),
    }


def _of_rules() -> Files:
    made = encode(picture(73), "PNG")
    return {
        "ruled/.imgrecignore": Odd(b"# mine\nprivate*.png\n!private-not.png\ndrafts/\n", UNCOUNTED),
        "ruled/private.png": Odd(made, "left out: private*.png"),
        "ruled/below/private 2.png": Odd(made, "left out: private*.png"),
        "ruled/private-not.png": Odd(made),
        "ruled/drafts/a.png": Odd(made, "left out: drafts/"),
        "not ruled/private.png": Odd(made),
    }


def _special() -> Files:
    files: Files = {
        "links/file.jpg": Odd(lambda path: path.symlink_to("../jpeg/grey.jpg"), SYMLINK),
        "links/folder": Odd(lambda path: path.symlink_to("../jpeg"), SYMLINK),
        "links/loop": Odd(lambda path: path.symlink_to(".."), SYMLINK),
        "links/itself.png": Odd(lambda path: path.symlink_to(path), SYMLINK),
        "links/broken.png": Odd(lambda path: path.symlink_to("nothing"), SYMLINK),
        "special/pipe.jpg": Odd(os.mkfifo, SPECIAL),
        "special/old library": Odd(_library, LIBRARY),
        "special/twin.jpg": Odd(lambda path: os.link(path.parents[1] / "jpeg" / "grey.jpg", path)),
    }
    if os.geteuid() != 0:  # whom no mode keeps from reading
        files["special/secret.png"] = Odd(_secret, UNREADABLE)
    return files


def _library(path: Path) -> None:
    path.mkdir()
    for name in ("library.json", "registry.sqlite"):
        (path / name).touch()
    (path / "sheet.png").write_bytes(encode(picture(74), "PNG"))


def _secret(path: Path) -> None:
    path.write_bytes(encode(picture(75), "PNG"))
    path.chmod(0)


def _huge() -> Files:
    return {
        "huge/sparse.jpg": Odd(partial(_sparse, 3 * 2**30), TOO_LARGE),
        "huge/sparse": Odd(partial(_sparse, 3 * 2**30), NO_SUFFIX),
        "huge/zeros.jpg": Odd(partial(_sparse, 2**20), NO_IMAGE),
    }


def _sparse(size: int, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(size)
    backdate(path)


if __name__ == "__main__":
    chosen = odd_files()
    write(Path(sys.argv[1]), chosen)
    for fate, count in sorted(Counter(odd.fate for odd in chosen.values()).items()):
        print(f"{count:4} {fate}")
