"""When a photo was taken, and by which camera: what EXIF says of it (https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf)."""

import io
import re
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple

from PIL import ExifTags, Image

from imgrec.storage.machine.quiet import ignore_warnings

_DATE = re.compile(r"(\d{4})[:./-](\d\d)[:./-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_OFFSET = re.compile(r"[+-](?:0\d|1[0-4]):[0-5]\d")
_TAGS = ExifTags.Base
# In this order: what an editor changes last (DateTime) is not when a photo was taken.
_DATES = (
    (_TAGS.DateTimeOriginal, _TAGS.OffsetTimeOriginal),
    (_TAGS.DateTimeDigitized, _TAGS.OffsetTimeDigitized),
)
_LONGEST_NAME = 100
# What raw pictures begin with instead of a TIFF's mark, which they are in all else.
_NEARLY_TIFF = (b"IIRO", b"IIRS", b"IIU\0")
_RAF, _RAF_JPEG_AT = b"FUJIFILMCCD-RAW", 84


class Exif(NamedTuple):
    """`taken` is the camera's clock, `2019-05-17 09:30:00`; `taken_offset` is how far that is from UTC, `+02:00`."""

    taken: str | None = None
    taken_offset: str | None = None
    camera: str | None = None


NO_EXIF = Exif()


def exif_of(image: Image.Image) -> Exif:
    """Read it of an image that is open and not decoded; what is damaged says nothing."""
    if image.format != "TIFF" and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return NO_EXIF
    try:
        # Not the PNG's own, which decodes all of it to look for what comes after the pixels.
        return _read(Image.Image.getexif(image) if image.format == "PNG" else image.getexif())
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises many kinds, and the picture is fine
        return NO_EXIF


def exif_of_raw(file: BinaryIO) -> Exif:
    """Read it of a camera's raw picture, as far as that is a TIFF, or Fujifilm's with a JPEG in front."""
    ignore_warnings(r"PIL\b")
    try:
        head = file.read(len(_RAF))
        if head == _RAF:
            file.seek(_RAF_JPEG_AT)
            file.seek(int.from_bytes(file.read(4), "big"))
            with Image.open(io.BytesIO(file.read(2**20)), formats=("JPEG",)) as preview:
                return exif_of(preview)
        exif = Image.Exif()
        file.seek(0)
        exif.load_from_fp(_AsTiff(file) if head.startswith(_NEARLY_TIFF) else file)  # type: ignore[arg-type] # reads only
        return _read(exif)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - Pillow raises many kinds, and the picture is fine
        return NO_EXIF


class _AsTiff:
    """A file whose first four bytes are a TIFF's."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        start, data = self._file.tell(), self._file.read(size)
        return (b"II*\0" + data[4:]) if start == 0 else data


def _read(exif: Image.Exif) -> Exif:
    inner = exif.get_ifd(ExifTags.IFD.Exif)
    for date_tag, offset_tag in _DATES:
        if (taken := _date(inner.get(date_tag))) is not None:
            offset = _text(inner.get(offset_tag))
            return Exif(taken, offset if _OFFSET.fullmatch(offset) else None, _camera(exif))
    return Exif(None, None, _camera(exif))


def _date(value: Any) -> str | None:
    """A date that the calendar has; cameras whose clock was never set write zeros or spaces."""
    if (found := _DATE.match(_text(value))) is None:
        return None
    try:
        return datetime(*map(int, found.groups())).isoformat(" ")  # type: ignore[arg-type]
    except ValueError:
        return None


def _camera(exif: Image.Exif) -> str | None:
    """Maker and model, without the maker where the model begins with it: `Apple iPhone 12`, `NIKON D750`."""
    make, model = _text(exif.get(_TAGS.Make)), _text(exif.get(_TAGS.Model))
    repeated = make and model.lower().startswith(make.split()[0].lower())
    return (model if repeated else f"{make} {model}".strip())[:_LONGEST_NAME] or None


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text.split("\0")[0]).split())
