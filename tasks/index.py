"""Bring one index in step with the registry."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from search.index import IndexParameters, IndexReport, update_index
from search.layout import IndexFolder, Member
from storage.library import Library
from storage.registry import Registry
from tasks.retrying import RETRYING


@task(name="index", task_run_name="index {name}", cache_policy=NO_CACHE, **RETRYING)
def index(
    library: Library, name: str, members: tuple[Member, ...], parameters: IndexParameters, rebuild: bool = False
) -> IndexReport | None:
    """Build or update an index and publish it; None if there is nothing to index."""
    with Registry.open_for_writing(library.registry_path) as registry:
        folder = IndexFolder(library.indexes_dir, name)
        return update_index(registry, library.shards_dir, folder, members, library.vector_settings, parameters, rebuild)
