"""How good a library is, as a flow: for a schedule, with every number in MLflow."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import evaluating
from imgrec.flows.pipeline.run import run_name
from imgrec.search.evaluation.plan import Plan
from imgrec.tasks.prefect_calls import PrefectCalls


@flow(name="evaluate-library", flow_run_name=partial(run_name, "evaluate"))
def evaluate_library(
    library: Path | str | None = None,
    indexes: list[str] | None = None,
    sample: int = Plan.sample,
    k: int = Plan.k,
    seed: int = Plan.seed,
    labels: str | None = None,
    copies: int = 0,
    weights: list[str] | None = None,
    suggest: bool = False,
    expand: bool = False,
    among: int = Plan.among,
    settings: dict[str, Any] | None = None,
) -> evaluating.Evaluation:
    """Measure a library's indexes, and judge its vectors and weights by labels and by distorted copies.

    Args:
        library: folder of the library.
        indexes: indexes to evaluate; default: all.
        sample: photos that are searched for; 0: searching is not measured.
        k: neighbours that count for recall.
        seed: of every sample.
        labels: which photos are of one class: `folders`, `leaf-folders`, or a CSV file; default: not judged.
        copies: photos of which fourteen distorted copies each are looked for.
        weights: further weights to judge, as `color=1,sift=0.5`.
        suggest: look for better weights, by labels, copies or both.
        expand: judge lists that are ranked anew by their photos' own neighbours, too.
        among: photos that labels and copies are judged among; 0: all.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    ef_search = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
    plan = Plan(
        indexes=tuple(indexes or ()), sample=sample, k=k, seed=seed, labels=labels, copies=copies,
        weights=tuple(weights or ()), suggest=suggest, expand=expand, among=among, ef_search=ef_search,
    )  # fmt: skip
    return evaluating.evaluate(chosen, PrefectCalls(chosen.retries), plan)
