"""A small folder of every kind of nasty file, and what an ingest has to say of each."""

import io
import os
import socket
import struct
import zlib
from contextlib import chdir
from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION_TAG = 0x0112
# What undoes each EXIF orientation.
UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
NAMES = {
    "line\nbreak.png": b"line\nbreak.png",
    "tab\tand \"quotes\" 100% 'of' it.png": b"tab\tand \"quotes\" 100% 'of' it.png",
    "\N{CAMERA}\N{VARIATION SELECTOR-16}.png": "\N{CAMERA}\N{VARIATION SELECTOR-16}.png".encode(),
    "caf\\xe9.png": b"caf\xe9.png",
    "-rf.png": b"-rf.png",
    "x" * 251 + ".png": b"x" * 251 + b".png",
}


def picture(seed: int = 0, width: int = 48, height: int = 32) -> Image.Image:
    """A picture with colours of its own for every seed, in areas that do not look alike."""
    made = Image.new("RGB", (width, height), (250, 250, (seed * 40) % 256))
    made.paste((220, (seed * 70) % 256, 20), (0, 0, width // 2, height // 2))
    made.paste((20, 20, 220), (width // 2, 0, width, height // 2))
    return made


def encode(made: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    made.save(buffer, format, **options)
    return buffer.getvalue()


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8))


def bomb(width: int, height: int) -> bytes:
    """A PNG of some bytes that promises any number of pixels."""
    data = bytearray(encode(picture(), "PNG"))
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(data[12:29]))
    return bytes(data)


def usable() -> dict[str, bytes]:
    """Files that get a vector."""
    exif = Image.Exif()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    moving = {"save_all": True, "append_images": frames[1:]}
    ramp = np.arange(0, 65_536, 256).reshape(16, 16)
    files = {
        "upright.png": encode(picture(), "PNG"),
        "gif.gif": encode(picture(1), "GIF"),
        "gif-named.jpg": encode(picture(1), "GIF", comment=b"the same pixels in other bytes"),
        "png-named.tiff": encode(picture(2), "PNG"),
        "cmyk.jpg": encode(picture(3).convert("CMYK"), "JPEG"),
        "grey.png": encode(picture(4).convert("L"), "PNG"),
        "one-bit.png": encode(picture(5).convert("1"), "PNG"),
        "palette.png": encode(picture(6).quantize(8), "PNG"),
        "palette-alpha.png": encode(picture(7).quantize(8), "PNG", transparency=bytes(range(8))),
        "alpha.png": encode(picture(8).convert("RGBA"), "PNG"),
        "see-through.png": encode(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "PNG"),
        "grey-alpha.png": encode(picture(9).convert("LA"), "PNG"),
        "16-bit.png": encode(Image.fromarray(ramp.astype(np.uint16)), "PNG"),
        "16-bit.tif": encode(Image.fromarray(ramp.astype(np.uint16)), "TIFF"),
        "32-bit.tif": encode(Image.fromarray(ramp.astype(np.int32)), "TIFF"),
        "float.tif": encode(Image.fromarray((ramp / 65_535).astype(np.float32)), "TIFF"),
        "frame.png": encode(frames[0], "PNG"),
        "moving.gif": encode(frames[0], "GIF", **moving),
        "moving.webp": encode(frames[0], "WEBP", lossless=True, **moving),
        "moving.png": encode(frames[0], "PNG", **moving),
        "pages.tiff": encode(frames[0], "TIFF", **moving),
        "one-pixel.jpg": encode(picture(0, 1, 1), "JPEG"),
        "wide.png": encode(picture(10, 20_000, 1), "PNG"),
        "high.jpg": encode(picture(11, 1, 20_000), "JPEG"),
        "bad-exif.jpg": encode(picture(12), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "odd-orientation.png": b"",
    }
    for orientation, undo in UNDO.items():
        exif[ORIENTATION_TAG] = orientation
        files[f"orientation-{orientation}.png"] = encode(picture().transpose(undo), "PNG", exif=exif.tobytes())
    exif[ORIENTATION_TAG] = 99
    files["odd-orientation.png"] = encode(picture(), "PNG", exif=exif.tobytes())
    return files


# Files that show the same pixels, so that their vectors are the same too.
ALIKE = [
    ("upright.png", "odd-orientation.png", *(f"orientation-{orientation}.png" for orientation in UNDO)),
    ("gif.gif", "gif-named.jpg"),
    ("frame.png", "moving.gif", "moving.webp", "moving.png", "pages.tiff"),
    ("16-bit.png", "16-bit.tif", "32-bit.tif"),
]


def unusable() -> dict[str, tuple[bytes, str]]:
    """Files that get a status instead."""
    whole = {format: encode(noise(), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")}
    files = {f"truncated.{name.lower()}": (data[: len(data) * 2 // 3], "corrupt") for name, data in whole.items()}
    progressive = encode(noise(), "JPEG", progressive=True)
    return {
        **files,
        "truncated-at-the-end.jpg": (whole["JPEG"][:-40], "corrupt"),
        "truncated-but-ended.jpg": (whole["JPEG"][: len(whole["JPEG"]) // 2] + b"\xff\xd9", "corrupt"),
        "truncated-progressive.jpg": (progressive[: len(progressive) * 2 // 3], "corrupt"),
        "nothing-but-a-header.jpg": (b"\xff\xd8\xff\xe0 and then nothing", "corrupt"),
        "nothing-but-a-header.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "corrupt"),
        "no-width.gif": (b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2", "corrupt"),
        "lzw-garbage.tif": (garble(encode(noise(), "TIFF", compression="tiff_lzw")), "corrupt"),
        "empty.jpg": (b"", "empty"),
        "empty.png": (b"", "empty"),
        "text.jpg": (b"my holiday", "not_an_image"),
        "zeros.png": (bytes(1_000), "not_an_image"),
        "garbage.webp": (np.random.default_rng(1).bytes(5_000), "not_an_image"),
        "vector.jpg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        "document.jpg": (encode(picture(), "PDF"), "not_an_image"),
        "bomb.png": (bomb(30_000, 30_000), "too_large"),
        "endless-bomb.png": (bomb(2**31 - 1, 2**31 - 1), "too_large"),
    }


def garble(tiff: bytes) -> bytes:
    data = bytearray(tiff)
    data[200:2_000] = b"\xff" * 1_800
    return bytes(data)


def write(folder: Path, outside: Path) -> dict[str, int]:
    """Write all of it, and what is no photo at all; return how an ingest counts the latter."""
    folder.mkdir()
    outside.mkdir()
    for name, data in usable().items():
        (folder / name).write_bytes(data)
    for name, (data, _) in unusable().items():
        (folder / name).write_bytes(data)
    (folder / "names\n").mkdir()
    for number, raw in enumerate(NAMES.values()):
        (folder / "names\n" / os.fsdecode(raw)).write_bytes(encode(picture(20 + number), "PNG"))
    (outside / "secret.png").write_bytes(encode(picture(99), "PNG"))
    (folder / "out.png").symlink_to(outside / "secret.png")
    (folder / "outside").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    (folder / "nowhere.png").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listening, chdir(folder):  # a socket's path has to be short
        listening.bind("socket.png")
    (folder / "folder.jpg").mkdir()
    special = 2
    try:
        os.mknod(folder / "device.png", 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero: read, it never ends
        special += 1
    except PermissionError:
        pass  # only root makes devices
    return {"symlink": 5, "device, socket or pipe": special}
