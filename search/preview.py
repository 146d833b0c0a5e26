"""A contact sheet: queries, their hits and the scores in one picture."""

import textwrap
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from imgrec.search.answers import Answer
from imgrec.storage.errors import ImageError
from imgrec.storage.machine.atomic import atomic_path
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.paths import printable
from imgrec.storage.photos.probe import read_regular

TILE = 240
CAPTION = 44
MARGIN = 16
COLUMNS = 6
# Beyond 2^15 many programs show no picture; as wide as it can be, a sheet of that height takes 150 MB of memory.
MAX_HEIGHT = 32_767
STEP_X, STEP_Y = TILE + MARGIN, TILE + CAPTION + MARGIN
INK, FAINT, PAPER, EMPTY, ACCENT = "#1f2328", "#6e7781", "white", "#f0f1f3", "#0969da"


def block_height(hits: int) -> int:
    """How many pixels of a sheet a query with so many hits takes from top to bottom."""
    return -(-(1 + hits) // COLUMNS) * STEP_Y + MARGIN


def write_preview(path: Path, answers: Sequence[Answer]) -> None:
    """Write one contact sheet as PNG: a block for each query, with its hits, below one another.

    A query that is no file shows as what it says.
    """
    columns = min(COLUMNS, 1 + max(len(answer.hits) for answer in answers))
    height = sum(block_height(len(answer.hits)) for answer in answers)
    sheet = Image.new("RGB", (columns * STEP_X + MARGIN, height), PAPER)
    top = 0
    for answer in answers:
        _draw(sheet, top, answer)
        top += block_height(len(answer.hits))
    with atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")


def _draw(sheet: Image.Image, top: int, answer: Answer) -> None:
    query_file = None if answer.file is None else Path(answer.file)
    name = query_file.name if query_file else ""
    cells: list[tuple[str, str, Path | None, str]] = [("query", name, query_file, ACCENT)]
    cells += [(f"{hit.rank}   {hit.score:.3f}", hit.path, Path(hit.file), INK) for hit in answer.hits]
    draw = ImageDraw.Draw(sheet)
    for place, (title, name, file, ink) in enumerate(cells):
        x, y = MARGIN + place % COLUMNS * STEP_X, top + MARGIN + place // COLUMNS * STEP_Y
        tile = _words(answer.query) if file is None else tile_of(file)
        sheet.paste(tile, (x, y))
        if place == 0:
            draw.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline=ACCENT, width=3)
        draw.text((x, y + TILE + 5), title, ink, font(16))
        draw.text((x, y + TILE + 25), shorten(draw, name), FAINT, font(13))


def tile_of(file: Path) -> Image.Image:
    try:
        data, _ = read_regular(file)
        picture = Image.fromarray(decode(data, TILE, max_megapixels=256))
    except (OSError, ImageError):  # gone or damaged since it was indexed: its score still stands
        return _placeholder()
    return ImageOps.pad(picture, (TILE, TILE), Image.Resampling.LANCZOS, color=EMPTY)


def _placeholder() -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    ImageDraw.Draw(tile).text((TILE // 2, TILE // 2), "not readable now", FAINT, font(16), anchor="mm")
    return tile


def _words(text: str) -> Image.Image:
    tile = Image.new("RGB", (TILE, TILE), EMPTY)
    lines = textwrap.wrap(printable(text), 24)[:9]
    ImageDraw.Draw(tile).text((TILE // 2, TILE // 2), "\n".join(lines), INK, font(16), anchor="mm", align="center")
    return tile


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which knows Greek, Cyrillic and more; what Pillow brings knows Latin letters alone."""
    (matplotlib,) = find_spec("matplotlib").submodule_search_locations  # type: ignore[union-attr, misc] # a dependency
    return ImageFont.truetype(Path(matplotlib) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def shorten(draw: ImageDraw.ImageDraw, name: str) -> str:
    """Cut a path from the left, where it says least, until it fits below a tile."""
    name = " ".join(printable(name).split())
    if draw.textlength(name, font(13)) <= TILE:
        return name
    while name and draw.textlength(f"…{name}", font(13)) > TILE:
        name = name[1:]
    return f"…{name}"
