"""What an evaluation found, drawn: PNG files for people who look at runs in MLflow."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgrec.search.evaluation.results import CopiesFound, Results
from imgrec.search.evaluation.searching import SearchQuality

if TYPE_CHECKING:  # takes half a second to import
    from matplotlib.figure import Figure

RECALL_PLOT, COPIES_PLOT = "recall-against-latency.png", "copies-by-distortion.png"


def draw_plots(results: Results) -> dict[str, bytes]:
    """Draw what there is, as PNG by file name."""
    plots = {}
    if results.searching:
        plots[RECALL_PLOT] = _png(_draw_recall(results.searching))
    if results.copies:
        plots[COPIES_PLOT] = _png(_draw_copies(results.copies))
    return plots


def _draw_recall(searching: Sequence[SearchQuality]) -> Figure:
    """Recall against latency, a line an index, a point an efSearch; a ring marks the one that it is searched with."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for one in searching:
        latencies, recalls = [point.p50_ms for point in one.sweep], [point.recall for point in one.sweep]
        (line,) = axes.plot(latencies, recalls, marker="o", markersize=4, label=f"{one.index} ({one.photos:,} photos)")
        used = next(point for point in one.sweep if point.ef_search == one.ef_search)
        axes.plot(used.p50_ms, used.recall, "o", markersize=11, fillstyle="none", color=line.get_color())
        first = one.sweep[0]
        axes.annotate(f"ef {first.ef_search}", (first.p50_ms, first.recall), (3, -11), textcoords="offset points",
                      fontsize=7, color=line.get_color())  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("median latency of one query, one thread [ms]")
    axes.set_ylabel(f"recall@{searching[0].k}")
    efs = ", ".join(str(point.ef_search) for point in searching[0].sweep)
    axes.set_title(f"Recall against latency over efSearch {efs} (ring: as searched)", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _draw_copies(copies: CopiesFound) -> Figure:
    """R@1 by distortion, a mark an index or weighting, the hardest distortion on top."""
    from matplotlib.figure import Figure

    count = len(copies.qualities)
    kinds = sorted(
        copies.qualities[0].by_distortion,
        key=lambda kind: sum(one.by_distortion[kind] for one in copies.qualities),
        reverse=True,
    )
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    for number, one in enumerate(copies.qualities):
        places = [place + 0.6 * (0.5 - (number + 0.5) / count) for place in range(len(kinds))]
        shares = [one.by_distortion[kind] for kind in kinds]
        axes.plot(shares, places, "osD^vPX"[number % 7], markersize=5, label=f"{one.name}: {one.r_at_1:.3f}")
    axes.set_yticks(range(len(kinds)), kinds)
    for place in range(1, len(kinds)):
        axes.axhline(place - 0.5, color="black", linewidth=0.3, alpha=0.4)
    axes.set_xlabel("R@1: share of copies whose original is the nearest photo")
    axes.set_title(f"Copies of {copies.photos:,} photos, searched among {copies.among:,}")
    axes.grid(alpha=0.3, axis="x")
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
