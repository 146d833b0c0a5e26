"""Bring one index in step with the registry."""

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from imgrec.search.indexes.layout import IndexFolder, Manifest, Member
from imgrec.search.indexes.publishing import publish
from imgrec.search.indexes.updating import IndexParameters, IndexReport, update_index
from imgrec.storage.library import Library
from imgrec.storage.registry.registry import Registry
from imgrec.tasks.retrying import RETRYING


@task(name="index", task_run_name="index {name}", cache_policy=NO_CACHE, **RETRYING)
def index(
    library: Library,
    name: str,
    members: tuple[Member, ...],
    vector_settings: Mapping[str, Any],
    parameters: IndexParameters,
    rebuild: bool = False,
) -> IndexReport | None:
    """Build or update an index; None if there is nothing to index.

    It is published, unless its vectors were made with other settings than those that are served: then `switch` does.
    """
    with Registry.open_for_writing(library.registry_path) as registry:
        folder = IndexFolder(library.indexes_dir, name)
        return update_index(
            registry, library.shards_dir, folder, members, vector_settings, parameters, rebuild, hold_switch=True
        )


@task(name="switch", task_run_name="switch to the new vectors", cache_policy=NO_CACHE, **RETRYING)
def switch(library: Library, manifests: Sequence[Manifest]) -> None:
    """Publish indexes of new vectors, one right after the other."""
    with Registry.open_for_writing(library.registry_path) as registry:
        for manifest in manifests:
            publish(registry, IndexFolder(library.indexes_dir, manifest.name), manifest)
