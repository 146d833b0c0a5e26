"""Which of my photos look like this one?

    import imgrec

    imgrec.ingest("~/Pictures", library="~/photos.imgrec")
    with imgrec.open("~/photos.imgrec") as library:
        for answer in library.search(["holiday.jpg", "id:7"], top_k=5):
            print(answer.query, [(hit.file, hit.score) for hit in answer.hits])

All else is inside: `imgrec.search`, `imgrec.embedders`, …; what is needed is imported when it is called.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgrec.flows.pipeline.exploring import ExploreReport
    from imgrec.flows.pipeline.report import RunReport
    from imgrec.search.opened import OpenLibrary

__all__ = ["explore", "ingest", "open"]


def ingest(
    photos: str | PathLike[str] | Mapping[str, str | PathLike[str] | None] | None = None,
    library: str | PathLike[str] | None = None,
    modalities: Sequence[str] | None = None,
    **settings: Any,
) -> "RunReport":
    """Make or renew the library of a folder of photos, in this process and without any server.

    Args:
        photos: folder of photos, or several by name: `{"nas": "/mnt/nas", "laptop": "~/Pictures"}`, where None instead
            of a folder removes one; a library remembers its own.
        library: folder of the library; default: ~/.local/share/imgrec/library.
        modalities: modalities to compute beside those that the library has.
        settings: any other setting by name, as in imgrec.toml (docs/settings.md).

    Raises:
        ImgrecError: what a user can act on, in one line (`imgrec.storage.errors`).
    """
    from imgrec.conf.settings import Settings
    from imgrec.flows.pipeline import ingesting
    from imgrec.tasks.calls import PlainCalls

    names = None if modalities is None else list(modalities)
    chosen = Settings.load(images_root=photos, library=library, modalities=names, **settings)
    return ingesting.ingest_nothing(chosen) or ingesting.ingest(chosen, PlainCalls(chosen.retries))


def explore(
    library: str | PathLike[str] | None = None,
    index: str | None = None,
    limit: int | None = None,
    refit: bool = False,
    output: str | PathLike[str] | None = None,
    **settings: Any,
) -> "ExploreReport":
    """Make the map of a library's photos, or bring it in step, in this process; `open(…).map()` reads it.

    Args:
        library: folder of the library; default: ~/.local/share/imgrec/library.
        index: index whose neighbours the map shows; default: the one that is searched by default.
        limit: map so many photos, drawn at random; default: all.
        refit: lay out the whole map anew, from where it is.
        output: HTML file to write; default: none.
        settings: any other setting by name, as in imgrec.toml (docs/settings.md).

    Raises:
        ImgrecError: what a user can act on, in one line (`imgrec.storage.errors`).
    """
    from pathlib import Path

    from imgrec.conf.settings import Settings
    from imgrec.flows.pipeline import exploring
    from imgrec.tasks.calls import PlainCalls

    chosen = Settings.load(library=library, **settings)
    page = None if output is None else Path(output)
    return exploring.explore(chosen, PlainCalls(chosen.retries), index=index, limit=limit, refit=refit, output=page)


def open(library: str | PathLike[str] | None = None, **settings: Any) -> "OpenLibrary":
    """Open a library, to search it and to read its tables; use it in a `with` block.

    Args:
        library: folder of the library; default: ~/.local/share/imgrec/library.
        settings: `device` or `models_root`, where learned embedders are to run; `thumbnail_cache_mb`.

    Raises:
        LibraryNotFoundError: there is no library.
    """
    from imgrec.conf.settings import Settings
    from imgrec.embedders.machine import Machine
    from imgrec.search.opened import OpenLibrary
    from imgrec.search.queries import Limits

    chosen = Settings.load(library=library, **settings)
    machine = Machine(chosen.models_root, chosen.device)
    return OpenLibrary(chosen.library, machine, Limits(**chosen.limits()), chosen.thumbnail_cache_mb)
