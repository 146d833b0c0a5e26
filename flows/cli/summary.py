"""What a run did, for people: first what they may do next; ids, places and parameters on request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from imgrec.conf.settings import DEFAULT_LIBRARY
from imgrec.flows.cli.console import visible
from imgrec.flows.cli.lines import Column, plain_console, print_lines
from imgrec.flows.cli.other_files import describe_left
from imgrec.flows.cli.tables import score_of, simple_table, size_of

if TYPE_CHECKING:  # knows Prefect, which takes a second to import
    from imgrec.flows.pipeline.report import RunReport
    from imgrec.search.indexes.updating import IndexReport


def print_report(report: RunReport, verbose: bool = False) -> None:
    """Print what a run did, and what may come next; ids, places and parameters only where it is `verbose`."""
    console = plain_console()
    if report.scan is not None or report.failures or report.retried:
        console.print(_photo_table(report))
    if report.indexes:
        _print_indexes(report.indexes, verbose)
    seconds = "  ".join(f"{stage} {spent:.1f} s" for stage, spent in report.seconds.items())
    count = report.embedded.images if report.embedded else 0
    speed = f"{count:,} images embedded, {report.images_per_s:,.0f} images/s.  " if count else ""
    lines = [f"{speed}{seconds}"]
    lines += [f"{'' if place else 'Next:':<5} {command}" for place, command in enumerate(_next_commands(report))]
    if report.scan is not None:
        lines += describe_left(report.scan.other_files, report.scan.left_out)
    if report.choice:
        lines.append(report.choice)
    if verbose:
        lines += _details(report)
    for line in lines:
        console.print(visible(line), soft_wrap=True)


def _next_commands(report: RunReport) -> list[str]:
    """What a newcomer may type now."""
    is_default = Path(report.library) == DEFAULT_LIBRARY.expanduser().resolve()
    where = "" if is_default else f" --library {quote(report.library)}"
    commands = []
    if any(built.manifest.live for built in report.indexes.values()):
        commands.append(f"imgrec search PHOTO{where}")
    elif report.images["ok"]:
        commands.append(f"imgrec {'embed' if report.embedded is None else 'index build'}{where}")
    if report.failures:
        commands.append(f"imgrec failures{where}   lists {sum(report.failures.values()):,}, with reasons")
    return commands


def _details(report: RunReport) -> list[str]:
    lines = [f"library: {report.library} ({', '.join(report.modalities)})"]
    if report.did_nothing:
        lines.append("nothing was new; MLflow gets this run together with the next that has something to do")
    if run := report.tracked:
        lines.append(f"MLflow run: {run.run_id} of {run.experiment} in {run.tracking_uri}")
    return lines


def _photo_table(report: RunReport) -> Table:
    table = simple_table("Photos")
    table.add_column("what")
    table.add_column("number", justify="right")
    if report.scan is not None:
        did = report.scan.identified
        counts = {
            "new": did.new,
            "copies": did.copied,
            "moved": did.moved,
            "changed": did.changed,
            "back again": did.returned,
            "missing": did.missing,
            "excluded, or of a removed root": did.excluded,
            "unchanged": report.scan.unchanged,
            "given date and camera": report.scan.headers_read,
        }
        for name, count in counts.items():
            if count or name in ("new", "unchanged"):
                table.add_row(name, f"{count:,}")
    if report.retried:
        table.add_row("failed before, tried again", f"{report.retried:,}")
    for status, count in report.failures.items():
        table.add_row(Text(f"failed: {status.replace('_', ' ')}", "yellow"), f"{count:,}")
    return table


def _print_indexes(indexes: Mapping[str, IndexReport], verbose: bool) -> None:
    columns = [
        Column("index"), Column(""), Column("kind", gives_way=3), Column("vectors", right=True),
        Column("size", right=True), Column("recall@10", right=True, gives_way=2),
        Column("build", right=True, gives_way=1),
    ]  # fmt: skip
    rows = []
    for name, built in indexes.items():
        manifest = built.manifest
        row = (name, built.action, manifest.kind, f"{manifest.live:,}", size_of(built.bytes))
        rows.append((*row, score_of(built.recall), f"{built.build_s:.1f} s"))
    print_lines("Indexes", columns, rows)
    for name, built in indexes.items() if verbose else ():
        manifest = built.manifest
        plain_console().print(
            f"{name}: {manifest.kind}, ef_search {manifest.ef_search:,}; {manifest.why}", soft_wrap=True
        )
