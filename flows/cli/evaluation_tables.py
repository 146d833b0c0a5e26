"""Evaluations as tables for people, in 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from imgrec.flows.cli.console import visible
from imgrec.flows.cli.lines import Column, plain_console, print_lines

if TYPE_CHECKING:  # knows Prefect's side, which takes a second to import
    from imgrec.flows.pipeline.evaluating import Evaluation
    from imgrec.search.evaluation.results import Classes, CopiesFound
    from imgrec.search.evaluation.searching import SearchQuality
    from imgrec.search.evaluation.suggesting import Difference, Suggestion
    from imgrec.tasks.tracking import EarlierRun

_WORST_CLASSES = 5
_RUNS_SIDE_BY_SIDE = 3
# Distortions one by one and the like are for --json and MLflow.
_COMPARED = {
    "recall": "recall", "p50_ms": "p50 ms", "queries_per_s_1_thread": "q/s", "p_at_1": "P@1", "map": "mAP",
    "r_at_1": "R@1", "gain": "gain of suggested weights",
}  # fmt: skip


def print_evaluation(evaluation: Evaluation) -> None:
    """Print what was measured, a table a question."""
    results, console = evaluation.results, plain_console()
    if results.searching:
        _print_searching(results.searching)
    if results.classes:
        _print_classes(results.classes)
    if results.copies:
        _print_copies(results.copies)
    if results.suggestion:
        _print_suggestion(results.suggestion)
    seconds = "  ".join(f"{stage} {value:.1f} s" for stage, value in evaluation.seconds.items())
    console.print(seconds)
    if evaluation.tracked:
        console.print(f"logged to MLflow as run {evaluation.tracked.run_id}")
        console.print("`imgrec evaluate --runs` shows runs side by side")


def _print_searching(searching: Sequence[SearchQuality]) -> None:
    first = searching[0]
    columns = [
        Column(f"recall@{first.k}", right=True), Column("ef", right=True), Column("p50 ms", right=True),
        Column("p95", right=True), Column("p99", right=True), Column("q/s 1", right=True),
        Column("q/s all", right=True), Column("photos", right=True, gives_way=1), Column("index"),
    ]  # fmt: skip
    rows = [
        (
            f"{one.recall:.3f}", str(one.ef_search), *(f"{ms:.2f}" for ms in _latencies(one)),
            f"{one.one_thread.queries_per_s:,.0f}", f"{one.all_threads.queries_per_s:,.0f}", f"{one.photos:,}",
            one.index,
        )
        for one in searching
    ]  # fmt: skip
    title = f"Searching for {max(one.queries for one in searching):,} photos of the library, one by one and all at once"
    print_lines(title, columns, rows)
    for one in searching:
        if one.behind:
            told = f"{one.index} is {one.behind:,} photos behind the library: `imgrec index build` brings it in step"
            plain_console().print(told)


def _latencies(one: SearchQuality) -> tuple[float, float, float]:
    return one.one_thread.p50_ms, one.one_thread.p95_ms, one.one_thread.p99_ms


def _print_classes(classes: Classes) -> None:
    columns = [
        Column("P@1", right=True), Column("mAP@50", right=True), Column("95 %"), Column("strict", right=True),
        Column("by"),
    ]  # fmt: skip
    rows = [
        (
            f"{one.means.p_at_1:.3f}", f"{one.means.map:.3f}", _interval(one.interval), f"{one.means.map_strict:.3f}",
            one.name,
        )
        for one in classes.qualities
    ]  # fmt: skip
    title = (
        f"Classes: {classes.queries:,} queries among {classes.photos:,} photos of {classes.classes:,} {classes.labels}"
    )
    print_lines(title, columns, rows)
    console = plain_console()
    if classes.unknown:
        labels = "1 label is" if classes.unknown == 1 else f"{classes.unknown:,} labels are"
        console.print(f"{labels} of no photo of the library")
    if classes.alone:
        console.print(f"{classes.alone:,} photos left out: no other one of their class")
    best = max(classes.qualities, key=lambda one: one.means.map)
    worst = sorted(best.by_class.items(), key=lambda item: item[1].map)[:_WORST_CLASSES]
    if len(best.by_class) > 1:
        told = ", ".join(f"{label} {means.map:.2f}" for label, means in worst)
        console.print(visible(f"hardest by {best.name}: {told} (--json has all classes)"))


def _print_copies(copies: CopiesFound) -> None:
    """A column a weighting, by number, since names of indexes are long and there are fourteen distortions."""
    title = f"Copies of {copies.photos:,} photos: share whose original is the nearest of {copies.among:,}"
    numbers = [f"({place})" for place in range(1, len(copies.qualities) + 1)]
    columns = [*(Column(number, right=True) for number in numbers), Column("distortion")]
    kinds = sorted(
        copies.qualities[0].by_distortion, key=lambda kind: sum(one.by_distortion[kind] for one in copies.qualities)
    )
    rows = [(*(f"{one.by_distortion[kind]:.3f}" for one in copies.qualities), kind) for kind in kinds]
    rows.append((*(f"{one.r_at_1:.3f}" for one in copies.qualities), "all of them"))
    print_lines(title, columns, rows)
    console = plain_console()
    for number, one in zip(numbers, copies.qualities, strict=True):
        console.print(f"  {number} {one.name}, 95 % interval {_interval(one.interval)}")
    if copies.lost:
        console.print(f"{copies.lost:,} photos left out: they are not what they were at the ingest")
    console.print("")


def _print_suggestion(found: Suggestion) -> None:
    from imgrec.search.evaluation.weightings import describe_weights

    console, present = plain_console(), f"{found.present.name}: {describe_weights(found.present.weights)}"
    if found.suggested is found.present:
        console.print(
            f"Weights: none of {found.tried:,} others does better on {found.chosen_on:,} photos than those of"
        )
        console.print(f"{present}\n")
        return
    columns = [Column("present", right=True), Column("suggested", right=True), Column("gain", right=True),
               Column("95 %"), Column("measure")]  # fmt: skip
    names = {"map": "mAP@50 of classes", "copies": "R@1 of copies"}
    rows = [_gain(one, names[name]) for name, one in found.by_measure.items()]
    if len(rows) > 1:
        rows.append(_gain(found.overall, "mean of both"))
    title = f"Weights: the best of {found.tried:,} on {found.chosen_on:,} photos, judged on {found.judged_on:,} others"
    print_lines(title, columns, rows)
    console.print(f"present    {present}")
    console.print(f"suggested  {describe_weights(found.suggested.weights)}")
    verdict = (
        "the difference is real: its interval leaves out 0"
        if found.overall.is_real
        else "the difference may be chance: its interval has 0 in it, so keep the present weights"
    )
    console.print(f"{verdict}\n")


def _gain(one: Difference, name: str) -> tuple[str, ...]:
    return (
        f"{one.first:.3f}", f"{one.second:.3f}", f"{one.difference:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}", name,
    )  # fmt: skip


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.3f}–{bounds[1]:.3f}"


def print_runs(runs: Sequence[EarlierRun]) -> None:
    """Print the newest runs side by side, a column a run."""
    if not runs:
        plain_console().print("no evaluation has been logged: `imgrec evaluate` makes one")
        return
    shown = runs[:_RUNS_SIDE_BY_SIDE]
    names = sorted({name for run in shown for name in run.metrics if name.rsplit("/", 1)[-1] in _COMPARED})
    columns = [Column(f"{datetime.fromtimestamp(run.started_s):%m-%d %H:%M}", right=True) for run in shown]
    rows = [(*(_value(run.metrics.get(name)) for run in shown), _named(name)) for name in names]
    facts = ("sample", "labels", "copies", "seed")
    rows += [(*(str(run.parameters.get(name, "–")) for run in shown), name) for name in facts]
    print_lines(
        f"Evaluations, the newest of {len(runs)} (+: --expand; --json has all of it)", [*columns, Column("what")], rows
    )


def _named(metric: str) -> str:
    """Name a metric of MLflow's, `<what>/<index or weights>/<which>`, for a narrow column."""
    _, *place, which = metric.split("/")
    return " ".join([_COMPARED[which], *place]).replace(" expand", " +")


def _value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
