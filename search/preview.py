"""A contact sheet: the query, its hits and their scores in one picture."""

import textwrap
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from search.answers import Answer
from storage.atomic import atomic_path
from storage.errors import ImageError
from storage.images import decode, printable
from storage.probe import read_regular

TILE = 240
CAPTION = 44
MARGIN = 16
COLUMNS = 6
INK, FAINT, PAPER, EMPTY, ACCENT = "#1f2328", "#6e7781", "white", "#f0f1f3", "#0969da"


def write_preview(path: Path, answer: Answer, query_file: Path | None, images_root: Path) -> None:
    """Write a contact sheet of the query and its hits as PNG (or whatever `path`'s suffix says).

    A query that is no file shows as what it says.
    """
    name = "" if query_file is None else query_file.name
    cells: list[tuple[str, str, Path | None, str]] = [("query", name, query_file, ACCENT)]
    cells += [(f"{hit.rank}   {hit.score:.3f}", hit.path, images_root / hit.file, INK) for hit in answer.hits]
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    step_x, step_y = TILE + MARGIN, TILE + CAPTION + MARGIN
    sheet = Image.new("RGB", (columns * step_x + MARGIN, rows * step_y + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (title, name, file, ink) in enumerate(cells):
        x, y = MARGIN + place % columns * step_x, MARGIN + place // columns * step_y
        tile = _words(answer.query) if file is None else _tile(file)
        sheet.paste(tile, (x, y))
        if place == 0:
            draw.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline=ACCENT, width=3)
        draw.text((x, y + TILE + 5), title, INK if ink is None else ink, _font(16))
        draw.text((x, y + TILE + 25), _shorten(draw, name), FAINT, _font(13))
    with atomic_path(path) as temporary:
        sheet.save(temporary)


def _tile(file: Path) -> Image.Image:
    try:
        data, _ = read_regular(file)
        picture = Image.fromarray(decode(data, TILE, max_megapixels=256))
    except (OSError, ImageError):  # gone or damaged since it was indexed: its score still stands
        return _placeholder()
    return ImageOps.pad(picture, (TILE, TILE), Image.Resampling.LANCZOS, color=EMPTY)


def _placeholder() -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    ImageDraw.Draw(tile).text((TILE // 2, TILE // 2), "not readable now", FAINT, _font(16), anchor="mm")
    return tile


def _words(text: str) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    lines = textwrap.wrap(printable(text), 24)[:9]
    ImageDraw.Draw(tile).text((TILE // 2, TILE // 2), "\n".join(lines), INK, _font(16), anchor="mm", align="center")
    return tile


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows Greek, Cyrillic and more; what Pillow brings knows Latin letters alone."""
    (matplotlib,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr, misc] # a dependency
    return ImageFont.truetype(Path(matplotlib) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _shorten(draw: ImageDraw.ImageDraw, name: str) -> str:
    """Cut a path from the left, where it says least, until it fits below a tile."""
    name = " ".join(printable(name).split())
    if draw.textlength(name, _font(13)) <= TILE:
        return name
    while name and draw.textlength(f"…{name}", _font(13)) > TILE:
        name = name[1:]
    return f"…{name}"
