"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from imgrec.flows.cli.console import visible
from imgrec.flows.cli.lines import Column, plain_console, print_lines, print_records
from imgrec.flows.cli.other_files import describe_left, describe_left_alone
from imgrec.storage.photos.paths import printable
from imgrec.storage.registry.failures import remedy_for

if TYPE_CHECKING:  # reports know Prefect, which takes a second to import
    from imgrec.embedders.models.store import StoredModel
    from imgrec.flows.pipeline.dry_run import Estimate
    from imgrec.flows.pipeline.exploring import ExploreReport
    from imgrec.search.answers import Answer
    from imgrec.search.upkeep.doctor import Diagnosis
    from imgrec.search.upkeep.unneeded import Garbage
    from imgrec.storage.registry.images import ImageRow

_CLUSTERS_SHOWN = 20


def print_answer(answer: Answer) -> None:
    """Print the hits of one query."""
    modalities = list(dict.fromkeys(name for hit in answer.hits for name in hit.scores))
    shown = modalities if len(modalities) > 1 else []
    columns = [Column("rank", right=True, gives_way=1), Column("score", right=True)]
    columns += [Column(name, right=True, gives_way=2) for name in shown]
    collapsed = any(hit.copies is not None for hit in answer.hits)
    columns += [Column("copies", right=True)] * collapsed + [Column("id", right=True), Column("photo")]
    rows = [
        (
            *(str(hit.rank), score_of(hit.score)),
            *(score_of(hit.scores.get(name)) for name in shown),
            *([f"{hit.copies:,}"] if hit.copies is not None else []),
            *(str(hit.id), hit.path),
        )
        for hit in answer.hits
    ]
    print_lines(f"Most like {printable(answer.query)}  ({answer.index}, {answer.search_ms:.1f} ms)", columns, rows)


def print_estimate(estimate: Estimate) -> None:
    """Print what an ingest would do."""
    table = simple_table("An ingest would")
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_row("find photos", f"{estimate.found:,}")
    table.add_row("read as new or changed", f"{estimate.to_read:,}")
    table.add_row("try again after a failure", f"{estimate.retried:,}")
    table.add_row("leave as they are", f"{estimate.unchanged:,}")
    table.add_row("miss (moved, changed or deleted)", f"{estimate.gone:,}")
    if estimate.excluded:
        table.add_row("take out (excluded, or of a removed root)", f"{estimate.excluded:,}")
    table.add_row("take about", _duration(estimate.seconds))
    table.add_row("need disk", size_of(estimate.disk_bytes))
    for what, size in estimate.disk.items():
        table.add_row(f"  {what}", size_of(size))
    console = plain_console()
    console.print(table)
    for line in describe_left(estimate.other_files, estimate.left_out):
        console.print(visible(line), soft_wrap=True)
    for name, reason in estimate.left_alone.items():
        console.print(visible(describe_left_alone(estimate.roots, name, reason)), soft_wrap=True)
    for script in estimate.jobs:
        console.print()
        console.out(script, highlight=False)
    if estimate.refused:
        console.print(f"It {visible(estimate.refused)}", soft_wrap=True)


def print_status(facts: Mapping[str, Any]) -> None:
    """Print what a library holds."""
    console = plain_console()
    of = "" if facts["roots"] else f" of {visible(facts['root'])}"
    console.print(f"library {visible(facts['library'])}{of}", soft_wrap=True)
    if facts["roots"]:
        _print_roots(facts["roots"])
    rows = [(f"images {state}", f"{count:,}") for state, count in facts["images"].items()]
    rows += [(f"vectors {modality}", f"{count:,}") for modality, count in facts["vectors"].items()]
    for name, index in facts["indexes"].items():
        told = "damaged" if "damaged" in index else f"{index['vectors']:,} in {size_of(index['bytes'])}"
        rows.append((f"index {name}", told))
    print_lines("", [Column("what"), Column("number", right=True)], rows)


def _print_roots(roots: Mapping[str, Mapping[str, Any]]) -> None:
    numbers = ("ok", "failed", "missing")
    columns = [Column("photos of"), *(Column(state, right=True) for state in numbers), Column("folder")]
    rows = [(name, *(f"{root[state]:,}" for state in numbers), root["folder"]) for name, root in roots.items()]
    print_lines("", columns, rows)
    for name, root in roots.items():
        if root["absent"]:
            plain_console().print(f"{name} seems not to be mounted: {visible(root['absent'])}", soft_wrap=True)


def print_models(root: Path, models: Sequence[StoredModel]) -> None:
    """Print the models that are in the store."""
    columns = [
        Column("name"), Column("modality"), Column("dim", right=True), Column("size", right=True), Column("licence"),
        Column("SHA-256 of its weights", gives_way=1),
    ]  # fmt: skip
    rows = []
    for model in models:
        weights = max(model.files, key=lambda file: file.bytes)
        size = size_of(model.size)
        rows.append((model.name, model.modality, str(model.dim), size, model.licence, weights.sha256))
    print_lines("Models", columns, rows)
    where = f"in {root}; efficientnet is always there, and `imgrec models fetch` fetches others"
    plain_console().print(visible(where), soft_wrap=True)


def print_failures(rows: Iterable[ImageRow]) -> None:
    """Print failed images, each with its reason below it, and what to do about them."""
    console = plain_console()
    remedies: dict[str, str] = {}
    for row in rows:
        if not remedies:
            console.print(Text("Images that cannot be used\n", "bold"))
        remedies.setdefault(remedy_for(row.status, row.reason), row.status)
        lines = f"{row.id:>8}  {visible(row.path)}\n{'':8}  {visible(f'{row.status}: {row.reason}')}"
        console.out(lines, highlight=False)
    console.print("" if remedies else "no image failed")
    for remedy, status in sorted(remedies.items(), key=lambda item: item[1]):
        console.print(f"{status}: {visible(remedy)}", soft_wrap=True)


def print_explored(report: ExploreReport) -> None:
    """Print what is on a map: its largest clusters, and where its page is."""
    facts, console = report.facts, plain_console()
    clusters = report.clusters[:_CLUSTERS_SHOWN]
    words = any(cluster.words for cluster in clusters)
    columns = [Column("cluster", right=True), Column("photos", right=True), Column("stands for it", right=True)]
    columns += [Column("words")] if words else []
    rows = [
        (
            str(cluster.number),
            f"{cluster.size:,}",
            f"id:{cluster.medoid}",
            *([", ".join(cluster.words)] if words else []),
        )
        for cluster in clusters
    ]
    print_lines(f"Map {report.map}, {report.action}: {facts.tell(facts.mapped)}", columns, rows)
    if len(report.clusters) > len(clusters):
        console.print(f"and {len(report.clusters) - len(clusters):,} smaller clusters (`--json` lists them)")
    console.print(
        f"{facts.mapped:,} photos: {len(report.clusters):,} clusters, {report.alone:,} photos in none; "
        f"{report.links:,} links, {report.communities:,} communities",
        soft_wrap=True,
    )
    if report.seconds:
        console.print(
            "  ".join(f"{stage} {seconds:.1f} s" for stage, seconds in report.seconds.items()), soft_wrap=True
        )
    if report.page is not None:
        told = "" if report.shown == facts.mapped else f", {report.shown:,} photos of it"
        console.print(f"page: {visible(printable(str(report.page)))}{told}", soft_wrap=True)


def print_rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows of a query."""
    print_records(names, (list(map(_cell, row)) for row in rows))


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)


def print_garbage(garbage: Sequence[Garbage], deleted: bool) -> None:
    """Print what can go, or went."""
    console = plain_console()
    if not garbage:
        console.print("nothing: the library needs all that it has")
        return
    columns = [Column("kind"), Column("size", right=True), Column("what")]
    rows = [(item.kind, size_of(item.bytes), item.what) for item in garbage]
    print_lines("Deleted" if deleted else "Not needed any more", columns, rows)
    total = size_of(sum(item.bytes for item in garbage))
    console.print(f"{total} freed" if deleted else f"{total}; `imgrec gc --delete` frees them")


def print_diagnoses(library: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """Print findings, each with what to do."""
    console = plain_console()
    for diagnosis in diagnoses:
        finding = diagnosis.finding
        state = Text("fixed", "green") if diagnosis.fixed else Text("found", "red")
        console.print(state, f" {finding.check}: {visible(finding.what)}", soft_wrap=True)
        if not diagnosis.fixed:
            who = "`imgrec doctor --fix` " if finding.fix is not None else ""
            console.print(f"       {who}{visible(finding.remedy)}", soft_wrap=True)
    remaining = sum(not diagnosis.fixed for diagnosis in diagnoses)
    counted = "1 finding remains" if remaining == 1 else f"{remaining:,} findings remain"
    verdict = counted if remaining else "nothing is wrong any more" if diagnoses else "nothing is wrong"
    console.print(f"{visible(str(library))}: {verdict}", soft_wrap=True)


def score_of(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def simple_table(title: str | None) -> Table:
    return Table(title=title and visible(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")


def size_of(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
