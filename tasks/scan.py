"""Scan the photos, take up shards that a killed ingest left, and let failed images be tried again."""

from collections.abc import Collection
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from imgrec.storage.library import Library, open_library
from imgrec.storage.mirror import adopt_shards
from imgrec.storage.registry.failures import forget_failures
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import ScanReport, scan_photos
from imgrec.tasks.driver import current_driver
from imgrec.tasks.retrying import RETRYING


@task(name="scan", task_run_name="scan {library.images_root}", cache_policy=NO_CACHE, **RETRYING)
def scan(library: Library, max_missing_share: float, decode_timeout_s: float) -> ScanReport:
    """Bring the registry up to date with the folder of photos. Never cached: the folder is what it is now.

    Where that is not the folder that library.json names, it is from then on.
    """
    driver = current_driver()
    moved = library.images_root != open_library(library.root).images_root
    with Registry.open_for_writing(library.registry_path) as registry:
        return scan_photos(
            registry,
            Path(library.images_root),
            driver.pool,
            max_missing_share,
            decode_timeout_s,
            driver.on_read,
            on_moved=library.save if moved else None,
        )


@task(name="adopt", task_run_name="adopt shards", cache_policy=NO_CACHE, **RETRYING)
def adopt(library: Library) -> int:
    """Mirror shards that the registry does not know; return how many vectors that brought."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return adopt_shards(registry, library.shards_dir)


@task(name="retry", task_run_name="try failed images again", cache_policy=NO_CACHE, **RETRYING)
def retry(library: Library, contents: Collection[bytes], by_itself: bool) -> None:
    """Make failed contents pending again; `by_itself` where nobody asked for it."""
    with Registry.open_for_writing(library.registry_path) as registry:
        forget_failures(registry, library.shards_dir, contents, by_itself)
