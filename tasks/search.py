"""Search as a task, for flows that go on with the hits."""

from collections.abc import Sequence
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from imgrec.embedders.machine import Machine
from imgrec.search.answers import Answer
from imgrec.search.asking import Asking
from imgrec.search.searcher import Searcher
from imgrec.search.terms import Term


@task(name="search", task_run_name="search {library.name}", cache_policy=NO_CACHE)
def search(
    library: Path,
    queries: Sequence[str],
    index: str | None = None,
    top_k: int = 10,
    ef_search: int | None = None,
    all_scores: bool = False,
    machine: Machine = Machine(),
    asking: Asking | None = None,
) -> list[Answer]:
    """Find the images most like each query; see `search.Searcher.search`."""
    with Searcher(library, index, ef_search, machine=machine) as searcher:
        return searcher.search(queries, top_k, all_scores, **(asking or {}))


@task(name="search-terms", task_run_name="search {library.name}", cache_policy=NO_CACHE)
def search_terms(
    library: Path,
    terms: Sequence[Term],
    index: str | None = None,
    top_k: int = 10,
    ef_search: int | None = None,
    machine: Machine = Machine(),
    asking: Asking | None = None,
) -> Answer:
    """Find the images most like a mixture of words and pictures; see `search.Searcher.search_terms`."""
    for_text = any(term.is_text for term in terms)
    with Searcher(library, index, ef_search, machine=machine, for_text=for_text) as searcher:
        return searcher.search_terms(terms, top_k, **(asking or {}))
