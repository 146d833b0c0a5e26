"""Search as a flow: scheduled or called from other flows, with its timings in MLflow."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from imgrec.conf.settings import Settings
from imgrec.embedders.machine import Machine
from imgrec.flows.pipeline.hits import hits_page
from imgrec.search.answers import Answer
from imgrec.search.asking import Asking
from imgrec.search.filters import Filter
from imgrec.search.terms import parse_terms
from imgrec.storage.library import Library, open_library
from imgrec.tasks.flow_runs import show_outcome, shows_photos
from imgrec.tasks.search import search, search_terms
from imgrec.tasks.tracking import RunRecord, postpone

logger = logging.getLogger(__name__)


def _run_name() -> str:
    asked = flow_run.parameters
    return f"search {', '.join((asked.get('queries') or []) + (asked.get('texts') or []))}".strip()


@flow(name="search-images", flow_run_name=_run_name)
def search_images(
    queries: list[str] | None = None,
    library: Path | None = None,
    index: str | None = None,
    top_k: int | None = None,
    all_scores: bool = False,
    texts: list[str] | None = None,
    images: list[str] | None = None,
    minus: list[str] | None = None,
    filters: dict[str, Any] | None = None,
    not_itself: bool = False,
    collapse_copies: bool = False,
    weights: dict[str, float] | None = None,
    expand: bool = False,
    settings: dict[str, Any] | None = None,
) -> list[Answer]:
    """Find the images most like each query, and those most like a mixture, and log how long that took.

    Args:
        queries: paths of image files, or `id:N` for images of the library.
        library: folder of the library.
        index: index to search; default: the library's, and for words the one that reads text.
        top_k: hits a query.
        all_scores: give the scores of every modality, not only of the index's.
        texts: words of one mixture; `2:red car` weighs twice.
        images: pictures of the mixture, as `queries`.
        minus: words and pictures that are taken away from it.
        filters: which photos may be hits, by the names of `Filter`: `{"where": "width > 2000", "paths": ["2019/**"]}`.
        not_itself: the query's own photo is no hit.
        collapse_copies: photos of equal content are one hit.
        weights: what each modality counts, by name, instead of the index's own weights.
        expand: rank the 200 nearest photos anew by what they have for neighbours.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, top_k=top_k, **(settings or {}))
    started_s = time.time()
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    machine = Machine(chosen.models_root, chosen.device)
    asking: Asking = {
        "where": Filter(**filters) if filters else None,
        "not_itself": not_itself,
        "collapse_copies": collapse_copies,
        "weights": weights,
        "expand": expand,
    }
    answers: list[Answer] = []
    if queries:
        answers += search(chosen.library, queries, index, chosen.top_k, ef_search, all_scores, machine, asking)
    if terms := parse_terms(texts or (), images or (), minus or ()):
        answers.append(search_terms(chosen.library, terms, index, chosen.top_k, ef_search, machine, asking))
    if answers:
        parameters = {
            "index": answers[0].index,
            "index_version": answers[0].version,
            "ef_search": answers[0].ef_search,
            "top_k": chosen.top_k,
            "queries": len(answers),
        }
        record = RunRecord("imgrec-search", "search", started_s, parameters, _milliseconds(answers))
        home = open_library(chosen.library)
        _keep_for_mlflow(home, record)
        page = hits_page(home, answers, shows_photos(chosen.show_photos))
        show_outcome(None, "imgrec-hits", page)
    return answers


def _keep_for_mlflow(library: Library, record: RunRecord) -> None:
    """Let the next run that logs take this one along: nobody who searches waits for MLflow, nor for its import."""
    try:
        postpone(library, record)
    except OSError as error:  # the library of somebody else, or on a read-only disk
        logger.warning("the timings of this search are not kept for MLflow: %s", error)


def _milliseconds(answers: Sequence[Answer]) -> dict[str, float]:
    """Mean milliseconds a query of every step."""
    return {step: fmean(getattr(answer, step) for answer in answers) for step in ("decode_ms", "embed_ms", "search_ms")}
