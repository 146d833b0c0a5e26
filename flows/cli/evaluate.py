"""`imgrec evaluate`: how good are the indexes, the vectors and their weights?"""

from typing import Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly
from imgrec.flows.cli.options import chosen_of, json_option, library_option, settings_options
from imgrec.flows.cli.outcome import load_flow
from imgrec.flows.pipeline.interrupts import cleaning_up
from imgrec.storage.library import open_library

SHOWN_RUNS = 20


@click.command()
@library_option
@click.option("--index", "indexes", multiple=True, metavar="NAME", help="Index to evaluate; may be repeated.  "
              "[default: all]")  # fmt: skip
@click.option("--sample", type=click.IntRange(0), default=1_000, show_default=True, metavar="N",
              help="Photos that are searched for; 0: searching is not measured.")  # fmt: skip
@click.option("--k", type=click.IntRange(1, 1_000), default=10, show_default=True, metavar="K",
              help="Neighbours that count for recall.")  # fmt: skip
@click.option("--labels", metavar="WHICH", help="Judge by classes: folders (the outermost), leaf-folders, or a CSV "
              "file with the columns path,label or id,label.")  # fmt: skip
@click.option("--copies", type=click.IntRange(0), default=0, metavar="N",
              help="Judge by fourteen distorted copies of each of N photos.")  # fmt: skip
@click.option("--weights", multiple=True, metavar="NAME=N,…",
              help="Judge these weights too, as color=1,sift=0.5; may be repeated.")  # fmt: skip
@click.option("--suggest-weights", "suggest", is_flag=True, help="Look for better weights, by --labels, --copies or "
              "both.")  # fmt: skip
@click.option("--expand", is_flag=True, help="Judge lists by --labels that are ranked anew by their photos' own "
              "neighbours, too.")  # fmt: skip
@click.option("--among", type=click.IntRange(0), default=100_000, show_default=True, metavar="N",
              help="Photos that labels and copies are judged among; 0: all.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of every sample.")
@click.option("--runs", is_flag=True, help="Show earlier evaluations side by side, and measure nothing.")
@settings_options("ef_search", "workers", "device", "models_root")
@json_option
@click.pass_obj
def evaluate(
    verbose: bool, /, library: str | None, runs: bool, as_json: bool, ef_search: str | None, workers: str | None,
    device: str | None, models_root: str | None, **asked: Any,
) -> None:  # fmt: skip
    """Measure how good a library is: what its graphs lose, what vectors and weights find, what a search costs.

    Photos of the library are the queries, and none is an answer to itself. Recall compares each index with exact
    search. Labels and copies judge vectors and weights, by exact scores. All of it is logged to MLflow, with plots.

    \b
    imgrec evaluate
    imgrec evaluate --labels folders --copies 100
    imgrec evaluate --labels labels.csv --weights color=1,sift=1 --suggest-weights
    imgrec evaluate --runs
    """
    settings = chosen_of({"ef_search": ef_search, "workers": workers, "device": device, "models_root": models_root})
    chosen = Settings.load(library=library, **settings)
    if runs:
        _show_runs(chosen, as_json, verbose)
        return
    _check(asked)
    if chosen.orchestrate == "none":
        speak_plainly(verbose)
        from imgrec.flows.pipeline.evaluating import evaluate as run
        from imgrec.search.evaluation.plan import Plan
        from imgrec.tasks.calls import PlainCalls

        used = chosen.ef_search if "ef_search" in chosen.model_fields_set else None
        with cleaning_up():
            evaluation = run(chosen, PlainCalls(chosen.retries), Plan(**asked, ef_search=used))
    else:
        evaluate_library = load_flow("evaluate_library", verbose)
        lists = {name: list(asked[name]) for name in ("indexes", "weights")}
        with cleaning_up():
            evaluation = evaluate_library(library=library, **{**asked, **lists}, settings=settings)
    if as_json:
        print_json(evaluation.as_json())
    else:
        from imgrec.flows.cli.evaluation_tables import print_evaluation

        print_evaluation(evaluation)


def _check(asked: dict[str, Any]) -> None:
    judged = asked["labels"] is not None or asked["copies"]
    for flag, given in (("--weights", asked["weights"]), ("--suggest-weights", asked["suggest"])):
        if given and not judged:
            raise click.UsageError(f"{flag}: say what to judge by, --labels or --copies")
    if asked["expand"] and asked["labels"] is None:
        raise click.UsageError("--expand: say which photos are of one class, with --labels")
    if not judged and not asked["sample"]:
        raise click.UsageError("--sample 0 leaves nothing to evaluate: give --labels or --copies")


def _show_runs(chosen: Settings, as_json: bool, verbose: bool) -> None:
    speak_plainly(verbose)
    from imgrec.tasks.tracking import EVALUATIONS, earlier_runs

    found = earlier_runs(open_library(chosen.library), EVALUATIONS, SHOWN_RUNS)
    if as_json:
        for run in found:
            print_json(vars(run))
    else:
        from imgrec.flows.cli.evaluation_tables import print_runs

        print_runs(found)
