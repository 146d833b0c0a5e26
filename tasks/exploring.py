"""The steps of exploring a library, as plain functions, like those of an ingest (`tasks.steps`)."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from imgrec.embedders.machine import Machine
from imgrec.search.errors import MapDamagedError, MapNotFoundError
from imgrec.search.map.files import MapFolder
from imgrec.search.map.making import MapParameters, Watch, make_map
from imgrec.search.map.page import shown_photos, write_page
from imgrec.search.map.photos import Photos
from imgrec.search.map.stored import matching_map, publish_map, read_map
from imgrec.search.map.words import keep_words, with_words
from imgrec.storage.library import Library
from imgrec.storage.machine.lock import writer_lock_in_turn
from imgrec.storage.registry.registry import Registry
from imgrec.storage.thumbnails.making import Reading, list_lacking, make_thumbnails
from imgrec.storage.thumbnails.store import ThumbnailStore
from imgrec.tasks.driver import current_driver


@dataclass(frozen=True)
class Page:
    """What the page of a map shows, and where it is written: `count` photos at most, with their paths or without."""

    output: Path
    count: int
    with_paths: bool


class Drawn(NamedTuple):
    """The version of a map that is published, and what was done: `made`, `updated`, `refitted` or `unchanged`."""

    version: str
    action: str


def draw_map(
    library: Library, index: str, limit: int | None, parameters: MapParameters, refit: bool, machine: Machine
) -> Drawn:
    """Make the map of an index, or bring it in step, and publish it.

    The library's lock is taken at the end only, so that ingests go on while the map is made.
    """
    driver = current_driver()
    folder = MapFolder(library.maps_dir, index, limit)
    with Registry.open_for_reading(library.registry_path) as registry:
        photos = Photos.open(library, registry, index)
        if not len(photos.ids):
            raise MapNotFoundError(f"index {index} has no photos, so there is nothing to map: `imgrec ingest`")
        old = None
        with suppress(MapNotFoundError, MapDamagedError):  # then it is made anew
            old = matching_map(folder, photos.manifest, parameters)
        watch = Watch(driver.on_stage, driver.on_images)
        made = make_map(photos, parameters, limit, old, refit, watch)
        if made.action == "unchanged":
            return Drawn(folder.current_version(), made.action)
        if old is not None and made.action == "updated":
            made = keep_words(made, old)
        else:
            with watch.stage("words"):
                made = with_words(library, registry, made, machine)
        made = replace(made, seconds=dict(watch.seconds))
        with writer_lock_in_turn(library.root):
            version = publish_map(folder, made, photos.manifest, len(photos.ids), limit, parameters)
            return Drawn(version, made.action)


def keep_thumbnails(library: Library, reading: Reading, ids: Sequence[int] | None = None) -> int:
    """Make the thumbnails that are lacking, of all photos or of some; return how many were made.

    Only for the holder of the library's lock.
    """
    driver = current_driver()
    store = ThumbnailStore(library.thumbnails_dir)
    with Registry.open_for_reading(library.registry_path) as registry:
        lacking = list(list_lacking(registry, store, ids))
    if not lacking:
        return 0
    driver.on_stage("thumbnails", len(lacking))
    return make_thumbnails(lacking, store, reading, driver.pool, 2 * driver.pool.workers, driver.on_images)


def write_map_page(library: Library, index: str, limit: int | None, page: Page, reading: Reading, seed: int) -> int:
    """Write the page of the published map, with thumbnails of all that it shows; return how many photos that are."""
    driver = current_driver()
    made, facts = read_map(MapFolder(library.maps_dir, index, limit))
    shown = shown_photos(made, page.count, seed)
    store = ThumbnailStore(library.thumbnails_dir)
    with Registry.open_for_reading(library.registry_path) as registry:
        hashes = registry.content_hashes(shown.tolist())
        if store.lacking(list(hashes.values())):
            with writer_lock_in_turn(library.root):
                keep_thumbnails(library, reading, shown.tolist())
        driver.on_stage("page", 0)
        thumbnails = store.get_many(hashes.values())
        found = registry.paths(shown.tolist()) if page.with_paths else []
    paths = {image_id: path[0] for image_id, path in zip(shown.tolist(), found, strict=False) if path is not None}
    write_page(
        page.output,
        made,
        shown,
        f"{facts.index}: {facts.mapped:,} photos",
        facts.tell(len(shown)),
        paths if page.with_paths else None,
        {image_id: thumbnails[content] for image_id, content in hashes.items() if content in thumbnails},
    )
    return len(shown)
