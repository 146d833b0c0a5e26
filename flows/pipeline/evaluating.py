"""An evaluation from a plan to a report; the caller says how steps run."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imgrec.conf.settings import Settings
from imgrec.embedders.catalogue import check_stored_models
from imgrec.embedders.machine import Machine
from imgrec.flows.pipeline.libraries import check_device
from imgrec.flows.pipeline.progress import stages_progress
from imgrec.flows.pipeline.report import Stages
from imgrec.flows.pipeline.run import run_name
from imgrec.search.evaluation.plan import Plan
from imgrec.search.evaluation.plots import draw_plots
from imgrec.search.evaluation.results import Results
from imgrec.search.evaluation.suggesting import suggest
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.os_errors import explaining
from imgrec.tasks.calls import Calls
from imgrec.tasks.driver import driving
from imgrec.tasks.evaluation import check_plan, judge_copies, judge_labels, measure_search, weightings_to_suggest
from imgrec.tasks.tracking import EVALUATIONS, RunRecord, TrackedRun, track

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation was asked and found."""

    library: str
    plan: Plan
    results: Results
    seconds: dict[str, float]
    tracked: TrackedRun | None = None

    def as_json(self) -> dict[str, object]:
        """The tables for programs; keys stay as they are from version to version."""
        return {
            "library": self.library,
            "plan": asdict(self.plan),
            **self.results.as_json(),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "mlflow": None if self.tracked is None else vars(self.tracked),
        }


def evaluate(chosen: Settings, calls: Calls, plan: Plan) -> Evaluation:
    """Measure a library's indexes, and judge its vectors and weights as far as the plan says; log it to MLflow.

    Writes nothing into the library but, where MLflow's database is there, the run.
    """
    library, started_s, stages = open_library(chosen.library), time.time(), Stages()
    machine = Machine(chosen.models_root, chosen.device)
    with explaining(library.root), stages_progress() as on_progress:
        check_plan(library, plan)
        if plan.copies:
            check_device(library, chosen.device)
            check_stored_models(library.modalities, library.vector_settings, chosen.models_root)
        with driving(chosen.workers, on_progress=on_progress):
            results = _measure(library, calls, plan, stages, chosen.limits(), machine)
    evaluation = Evaluation(str(library.root), plan, results, stages.seconds)
    return replace(evaluation, tracked=_track(library, calls, _record(evaluation, started_s)))


def _measure(
    library: Library, calls: Calls, plan: Plan, stages: Stages, limits: Mapping[str, float], machine: Machine
) -> Results:
    results = Results()
    measures: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    if plan.sample:
        with stages.timed("search"):
            results = replace(results, searching=tuple(calls.call(measure_search, library, plan)))
    if plan.labels:
        with stages.timed("classes"):
            judged = calls.call(judge_labels, library, plan)
        results, measures["map"] = replace(results, classes=judged.classes), judged.values
    if plan.copies:
        with stages.timed("copies"):
            copied = calls.call(judge_copies, library, plan, limits, machine)
        results, measures["copies"] = replace(results, copies=copied.copies), copied.values
    if plan.suggest:
        with stages.timed("suggestion"):
            present, tried = weightings_to_suggest(library, plan)
            results = replace(results, suggestion=suggest(present, tried, measures, plan.seed))
    return results


def _track(library: Library, calls: Calls, record: RunRecord) -> TrackedRun | None:
    """Log a run; what took minutes to measure is shown even where neither MLflow nor the library can be written."""
    try:
        return calls.call(track, library, record)
    except OSError as error:
        logger.warning("the run is not kept for MLflow, since %s cannot be written: %s", library.root, error)
        return None


def _record(evaluation: Evaluation, started_s: float) -> RunRecord:
    plan: dict[str, object] = {
        name: "; ".join(value) if isinstance(value, tuple) else value
        for name, value in asdict(evaluation.plan).items()
        if value not in (None, ())
    }
    versions = {f"{one.index}.version": one.version for one in evaluation.results.searching}
    efs = {f"{one.index}.ef_search": one.ef_search for one in evaluation.results.searching}
    seconds = {f"seconds/{stage}": value for stage, value in evaluation.seconds.items()}
    return RunRecord(
        EVALUATIONS, run_name("evaluate"), started_s, plan | versions | efs,
        evaluation.results.metrics() | seconds, artifacts=draw_plots(evaluation.results),
    )  # fmt: skip
