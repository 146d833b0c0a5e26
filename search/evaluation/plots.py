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
        for point in (one.sweep[0], one.sweep[-1]):
            axes.annotate(f"ef {point.ef_search}", (point.p50_ms, point.recall), (3, -11), textcoords="offset points",
                          fontsize=7, color=line.get_color())  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("median latency of one query, one thread [ms]")
    axes.set_ylabel(f"recall@{searching[0].k}")
    axes.set_title("Recall against latency over efSearch (ring: as searched)")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def _draw_copies(copies: CopiesFound) -> Figure:
    """R@1 by distortion, a mark an index or weighting, the hardest distortion on top."""
    from matplotlib.figure import Figure

    best = copies.qualities[-1].by_distortion
    kinds = sorted(best, key=lambda kind: sum(one.by_distortion[kind] for one in copies.qualities), reverse=True)
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    for one, marker in zip(copies.qualities, "osD^vPX<>*" * len(copies.qualities), strict=False):
        shares = [one.by_distortion[kind] for kind in kinds]
        axes.plot(shares, range(len(kinds)), marker, markersize=6, alpha=0.8, label=f"{one.name}: {one.r_at_1:.3f}")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xlabel("R@1: share of copies whose original is the nearest photo")
    axes.set_title(f"Copies of {copies.photos:,} photos, searched among {copies.among:,}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="lower left")
    return figure


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
