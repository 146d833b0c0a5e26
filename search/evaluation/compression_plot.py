"""Recall against bytes, drawn."""

import io
from collections import defaultdict
from collections.abc import Sequence

from imgrec.search.evaluation.compression_methods import MethodQuality


def draw_methods(found: Sequence[MethodQuality], source: str, source_dim: int) -> bytes:
    """Draw a line a method, as PNG; stars are the library's own encoders, the dotted line the vectors themselves."""
    from matplotlib.figure import Figure

    lines: dict[str, list[MethodQuality]] = defaultdict(list)
    for one in found:
        lines[one.method].append(one)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for method, some in sorted(lines.items(), key=lambda line: -max(one.recall for one in line[1])):
        some = sorted(some, key=lambda one: one.bytes_per_vector)
        axes.plot(
            [one.bytes_per_vector for one in some], [one.recall for one in some],
            linestyle="--" if method.startswith("faiss") else "-", marker="*" if "." in method else "o",
            markersize=10 if "." in method else 4, label=method,
        )  # fmt: skip
    axes.axvline(4 * source_dim, color="grey", linewidth=1, linestyle=":")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"bytes a vector (dotted: {source} itself, {4 * source_dim:,})")
    axes.set_ylabel("share of the ten nearest neighbours kept")
    axes.set_title(f"{source} made shorter, on photos that nothing was learnt from", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
