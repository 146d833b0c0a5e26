"""The hits of a search as a page in Markdown, with small pictures inside of it."""

import base64
from collections.abc import Sequence
from html import escape

from imgrec.search.answers import Answer
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.store import ThumbnailStore

# An artifact is a row of the server's database, and a thumbnail takes some 1.5 KB of it.
MAX_SHOWN = 100


def hits_page(library: Library, answers: Sequence[Answer], with_photos: bool) -> str:
    """Show the first hits of each answer; without photos, ids and scores only.

    HTML in the Markdown, since a Markdown table has no room for pictures beside each other.
    """
    parts = []
    room = MAX_SHOWN
    for number, answer in enumerate(answers, 1):
        shown, room = answer.hits[:room], max(0, room - len(answer.hits))
        pictures = _pictures(library, [hit.id for hit in shown]) if with_photos else {}
        title = escape(answer.query) if with_photos else f"Query {number}"
        parts.append(f"### {title}\n\nindex {answer.index}, {answer.search_ms:.1f} ms")
        rows = [
            f"<tr><td>{hit.rank}</td><td>{pictures.get(hit.id, '')}</td><td>{hit.score:.3f}</td><td>id:{hit.id}</td>"
            f"<td>{escape(hit.path) if with_photos else ''}</td></tr>"
            for hit in shown
        ]
        parts.append(f"<table>{''.join(rows)}</table>")
        if len(shown) < len(answer.hits):
            parts.append(f"{len(answer.hits) - len(shown):,} more hits are in the run's result.")
    return "\n\n".join(parts)


def _pictures(library: Library, ids: Sequence[int]) -> dict[int, str]:
    with Registry.open_for_reading(library.registry_path) as registry:
        marks = ",".join("?" * len(ids))
        rows = registry.connection.execute(f"SELECT id, content_hash FROM images WHERE id IN ({marks})", list(ids))
        contents = dict(rows.fetchall())
    found = ThumbnailStore(library.thumbnails_dir).get_many(list(contents.values()))
    return {
        image_id: f'<img src="data:image/webp;base64,{base64.b64encode(found[content]).decode()}">'
        for image_id, content in contents.items()
        if content in found
    }
