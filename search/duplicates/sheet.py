"""Contact sheets of copies: a block for each group, the photo to keep first."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from imgrec.search.duplicates.candidates import OnProgress
from imgrec.search.duplicates.groups import Copy, Group
from imgrec.search.preview import (
    ACCENT,
    COLUMNS,
    FAINT,
    INK,
    MARGIN,
    MAX_HEIGHT,
    PAPER,
    STEP_X,
    STEP_Y,
    TILE,
    font,
    shorten,
    tile_of,
)
from imgrec.storage.machine.atomic import atomic_path

HEADING = 40
# Of a larger group so many photos are drawn.
MOST_COPIES = 18


def write_sheets(path: Path, groups: Sequence[Group], on_progress: OnProgress) -> list[Path]:
    """Write contact sheets as PNG: `path`, and where one would be too high `…-2.png` and so on; return their paths."""
    drawn = 0
    written = []
    for number, some in enumerate(_by_height(groups), 1):
        target = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        sheet = Image.new("RGB", (COLUMNS * STEP_X + MARGIN, sum(map(_height, some))), PAPER)
        top = 0
        for group in some:
            _draw(sheet, top, group)
            top += _height(group)
            drawn += 1
            on_progress(drawn, len(groups))
        with atomic_path(target) as temporary:
            sheet.save(temporary, "PNG")
        written.append(target)
    return written


def _by_height(groups: Sequence[Group]) -> list[list[Group]]:
    sheets: list[list[Group]] = []
    height = MAX_HEIGHT
    for group in groups:
        if height + _height(group) > MAX_HEIGHT:
            sheets.append([])
            height = 0
        sheets[-1].append(group)
        height += _height(group)
    return sheets


def _height(group: Group) -> int:
    return HEADING + -(-min(len(group.copies), MOST_COPIES) // COLUMNS) * STEP_Y + MARGIN


def _draw(sheet: Image.Image, top: int, group: Group) -> None:
    draw = ImageDraw.Draw(sheet)
    more = len(group.copies) - MOST_COPIES
    heading = f"group {group.number}, {group.kind}, {len(group.copies):,} photos: keep {group.copies[0].id}, "
    heading += group.copies[0].why + (f" ({more:,} more are not shown)" if more > 0 else "")
    draw.text((MARGIN, top + MARGIN), heading, INK, font(18))
    for place, copy in enumerate(group.copies[:MOST_COPIES]):
        x, y = MARGIN + place % COLUMNS * STEP_X, top + HEADING + MARGIN + place // COLUMNS * STEP_Y
        sheet.paste(tile_of(Path(copy.file)), (x, y))
        if copy.keep:
            draw.rectangle((x - 3, y - 3, x + TILE + 2, y + TILE + 2), outline=ACCENT, width=3)
        draw.text((x, y + TILE + 5), _title(copy), ACCENT if copy.keep else INK, font(16))
        draw.text((x, y + TILE + 25), shorten(draw, copy.path), FAINT, font(13))


def _title(copy: Copy) -> str:
    return f"{'keep  ' if copy.keep else ''}{copy.id}  {copy.score:.3f}  {copy.width}×{copy.height}"
