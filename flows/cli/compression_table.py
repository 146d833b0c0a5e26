"""What a comparison of compressions found, as a table."""

from collections import defaultdict
from collections.abc import Sequence

from imgrec.flows.cli.lines import plain_console
from imgrec.flows.cli.tables import simple_table
from imgrec.search.evaluation.compression_methods import MethodQuality


def print_methods(found: Sequence[MethodQuality]) -> None:
    """Print a line a method and a column a size."""
    sizes = sorted({one.bytes_per_vector for one in found})
    methods: dict[str, dict[int, float]] = defaultdict(dict)
    for one in found:
        methods[one.method][one.bytes_per_vector] = one.recall
    table = simple_table("Share of the ten nearest neighbours kept, by bytes a vector")
    table.add_column("method")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    for method, recalls in sorted(methods.items(), key=lambda line: -max(line[1].values())):
        table.add_row(method, *(f"{recalls[size]:.3f}" if size in recalls else "" for size in sizes))
    plain_console().print(table)
