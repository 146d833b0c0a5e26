"""Which indexes a run brings in step, and of what each is made."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, NamedTuple

from imgrec.flows.pipeline.run import Run
from imgrec.search.errors import IndexDamagedError, IndexNotFoundError
from imgrec.search.fusion import index_members, indexes_in_step
from imgrec.search.indexes.layout import IndexFolder, Member, list_indexes, published_indexes
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.names import canonical_name


class IndexPlan(NamedTuple):
    """An index as it is to be; `vector_settings` are those by which its queries are embedded."""

    name: str
    members: tuple[Member, ...]
    vector_settings: Mapping[str, Any]
    parameters: IndexParameters


def plan_indexes(run: Run, asked: Sequence[str] = (), as_served: bool = False) -> Iterator[IndexPlan]:
    """Yield the indexes asked for, or one per modality and their combination, and all others that are there.

    With `as_served`, those that are there keep the vectors that they have now. Settings of graphs are for those asked
    for, or else for all.
    """
    asked = [canonical_name(name) for name in asked]
    for name in indexes_in_step(run.library.modalities, list_indexes(run.library.indexes_dir), asked):
        yield IndexPlan(name, *_made_of(run, name, as_served), _parameters(run, name, not asked or name in asked))


def _made_of(run: Run, name: str, as_served: bool) -> tuple[tuple[Member, ...], Mapping[str, Any]]:
    """The members and vector settings of an index: the library's, or those that the index has now."""
    if as_served and name in published_indexes(run.library.indexes_dir):
        with suppress(IndexDamagedError):
            manifest = IndexFolder(run.library.indexes_dir, name).read_manifest()
            return manifest.members, manifest.vector_settings
    return index_members(name, run.specs), run.library.vector_settings


def _parameters(run: Run, name: str, meant: bool) -> IndexParameters:
    """Settings that some source names, if meant for this index, else what it was built with, else the defaults."""
    chosen = run.chosen.model_dump()
    try:
        built_with = IndexFolder(run.library.indexes_dir, name).read_manifest().parameters
    except (IndexNotFoundError, IndexDamagedError):
        built_with = {}
    chosen |= {key: value for key, value in built_with.items() if not meant or key not in run.chosen.model_fields_set}
    return IndexParameters(**{field.name: chosen[field.name] for field in fields(IndexParameters)})
