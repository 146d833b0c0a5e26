"""The kinds that there are, by name."""

from imgrec.search.errors import IndexDamagedError
from imgrec.search.indexes.kinds.exact import Exact
from imgrec.search.indexes.kinds.floats import Flat, Hnsw
from imgrec.search.indexes.kinds.graph import Graph, GraphOnly
from imgrec.search.indexes.kinds.inverted import Inverted
from imgrec.search.indexes.kinds.kind import Kind

KINDS: dict[str, Kind] = {kind.name: kind for kind in (Exact(), Graph(), GraphOnly(), Inverted(), Hnsw(), Flat())}


def kind_of(name: str) -> Kind:
    """The kind of this name.

    Raises:
        IndexDamagedError: there is none: a manifest says nonsense, or comes from a later version of this program.
    """
    if name not in KINDS:
        there = ", ".join(KINDS)
        raise IndexDamagedError(f"index segments of kind {name!r} are unknown to this program: there are {there}")
    return KINDS[name]
