"""Embed one chunk, and mirror what came out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext

from imgrec.embedders.work.worker import embed_chunk
from imgrec.storage.library import Library
from imgrec.storage.mirror import merge_small_shards, mirror_shards
from imgrec.storage.registry.registry import Registry
from imgrec.tasks.driver import current_driver
from imgrec.tasks.retrying import RETRYING

# Grows when a chunk's result means something else.
TASK_VERSION = "2"


class Done(TypedDict):
    """A chunk's result: the paths of its shards, and how many of its images got a vector."""

    shards: list[str]
    embedded: int


def _cache_key(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    """One result a library and chunk: a digest alone would be shared by all libraries of the machine."""
    return f"imgrec-{parameters['library_uuid']}-{TASK_VERSION}-{Path(parameters['chunk_path']).stem}"


@task(
    name="embed",
    task_run_name="embed {images} images, {chunk_path.stem:.8}",
    cache_key_fn=_cache_key,
    persist_result=True,
    result_serializer="json",
    **RETRYING,
)
def embed(library_uuid: str, chunk_path: Path, images: int) -> Done:
    """Embed a chunk of images."""
    driver = current_driver()
    outcome = embed_chunk(chunk_path, driver.pool, 2 * driver.pool.workers, driver.on_images)
    return {"shards": [str(path) for path in outcome.shards], "embedded": outcome.embedded}


@task(name="mirror", task_run_name="mirror shards", cache_policy=NO_CACHE, **RETRYING)
def mirror(library: Library, shards: Sequence[str]) -> int:
    """Copy shards into the registry; return how many vectors came in."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return mirror_shards(registry, library.shards_dir, [Path(path) for path in shards])


@task(name="merge", task_run_name="merge small {modality} shards", cache_policy=NO_CACHE, **RETRYING)
def merge(library: Library, modality: str, fingerprint: str) -> int:
    """Merge small shards if there are many; return how many files went."""
    with Registry.open_for_writing(library.registry_path) as registry:
        return merge_small_shards(registry, library.shards_dir, modality, fingerprint)
