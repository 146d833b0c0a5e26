"""How many candidates a search has to look at to find enough."""

from dataclasses import dataclass
from typing import Protocol

from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.rescoring import SPARE, ExactScores
from imgrec.search.indexes.truth import K, Truth
from imgrec.search.indexes.vectors import Ids, Vectors

# The numbers of candidates that are tried, one after the other, each about half as much again.
EF_LADDER = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1_024)


@dataclass(frozen=True)
class Tuned:
    """How many candidates to look at, and the recall@10 that they gave; None where it was not measured."""

    ef_search: int
    recall: float | None


class Searchable(Protocol):
    def search(self, queries: Vectors, k: int, ef_search: int | None = None) -> tuple[Vectors, Ids]: ...


def tune(reader: Searchable, exact: ExactScores, truth: Truth, parameters: IndexParameters) -> Tuned:
    """Find the smallest ef_search that reaches the target recall, or measure that of the one asked for."""
    if len(truth.queries) == 0:
        return Tuned(parameters.ef_search or EF_LADDER[4], None)
    recall = 0.0
    for ef_search in [parameters.ef_search] if parameters.ef_search else EF_LADDER:
        recall = measure(reader, exact, truth, ef_search)
        if recall >= parameters.target_recall:
            break
    return Tuned(ef_search, recall)


def measure(reader: Searchable, exact: ExactScores, truth: Truth, ef_search: int) -> float:
    """Recall@10 with this ef_search: of hits ranked by their exact scores, as a Searcher ranks them."""
    _, ids = reader.search(truth.queries, K + 1 + SPARE, ef_search)

    def found(query: int) -> Vectors:
        hits = ids[query]
        return exact.score(truth.queries[query], hits[(hits >= 0) & (hits != truth.query_ids[query])])

    return truth.recall(found)
