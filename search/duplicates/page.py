"""Groups of copies as one HTML file that needs no other file, program or network."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from imgrec.search.duplicates.candidates import OnProgress
from imgrec.search.duplicates.groups import Copy, Group
from imgrec.search.preview import tile_of
from imgrec.storage.machine.atomic import atomic_path

# Of a larger group so many photos are shown.
MOST_COPIES = 60
_SIDE = 200
_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Copies</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; color: #1f2328; background: #fff }}
section {{ border-top: 1px solid #d0d7de; padding: 1rem 0 }}
h2 {{ font-size: 1rem; margin: 0 0 .6rem }} h2 small {{ color: #6e7781; font-weight: normal }}
ul {{ display: flex; flex-wrap: wrap; gap: 1rem; list-style: none; margin: 0; padding: 0 }}
li {{ width: {side}px; overflow-wrap: anywhere; font-size: .8rem; color: #57606a }}
img {{ width: {side}px; height: {side}px; outline: 3px solid transparent; display: block; margin-bottom: .4rem }}
.keep img {{ outline-color: #0969da }} .keep b {{ color: #0969da }} b {{ color: #1f2328 }} a {{ color: inherit }}
@media (prefers-color-scheme: dark) {{ body {{ background: #0d1117; color: #e6edf3 }} b {{ color: #e6edf3 }} }}
</style>
<h1>Copies</h1>
<p>{told} What is framed is to be kept. Nothing was deleted.</p>
"""


def write_page(path: Path, groups: Sequence[Group], told: str, on_progress: OnProgress) -> None:
    """Write groups as a page; `told` is a sentence that says which they are."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as page:
        page.write(_HEAD.format(side=_SIDE, told=html.escape(told)))
        for drawn, group in enumerate(groups, 1):
            page.write(_section(group))
            on_progress(drawn, len(groups))
        page.write("</html>\n")


def _section(group: Group) -> str:
    items = "".join(_item(copy) for copy in group.copies[:MOST_COPIES])
    more = len(group.copies) - MOST_COPIES
    told = f"{len(group.copies):,} photos" + (f", {more:,} of them not shown" if more > 0 else "")
    heading = f"<h2>Group {group.number} <small>{group.kind}, {told}</small></h2>"
    return f'<section id="group-{group.number}">{heading}<ul>{items}</ul></section>\n'


def _item(copy: Copy) -> str:
    buffer = io.BytesIO()
    tile_of(Path(copy.file)).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=80)
    picture = base64.b64encode(buffer.getvalue()).decode()
    name, link = html.escape(copy.path), html.escape(quote(copy.file, errors="surrogateescape"))
    verdict = "keep" if copy.keep else f"in place of it: {copy.instead}"
    return (
        f'<li class="{"keep" if copy.keep else "spare"}"><a href="file://{link}">'
        f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{picture}"></a><b>{copy.id}, {verdict}</b>'
        f"<br>{name}<br>{copy.score:.3f}, {copy.width} × {copy.height}, {copy.size:,} bytes"
        f"<br>{html.escape(copy.why)}</li>"
    )
