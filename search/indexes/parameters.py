"""How indexes are built."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class IndexParameters:
    """What was asked for an index.

    `index_type` is a kind, or `auto`; `ef_search` how many candidates searches look at, or None to find how many the
    `target_recall` takes, recall@10 on `recall_sample` of the index's own vectors. `index_batch_size` changes memory,
    not the index.
    """

    hnsw_m: int = 24
    ef_construction: int = 100
    ef_search: int | None = None
    index_batch_size: int = 16_384
    recall_sample: int = 200
    index_type: str = "auto"
    target_recall: float = 0.99

    @property
    def kept(self) -> dict[str, Any]:
        """The parameters that an index keeps until others are given."""
        return {**self.built_in, "ef_search": self.ef_search, "target_recall": self.target_recall}

    @property
    def built_in(self) -> dict[str, Any]:
        """Those of them that a rebuild depends on."""
        return {"index_type": self.index_type, "hnsw_m": self.hnsw_m, "ef_construction": self.ef_construction}
