"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box, markup
from rich.console import Console
from rich.table import Table

from imgrec.flows.cli.console import visible
from imgrec.storage.photos.paths import printable

if TYPE_CHECKING:  # reports know Prefect, which takes a second to import
    from imgrec.embedders.models.store import StoredModel
    from imgrec.flows.pipeline.dry_run import Estimate
    from imgrec.flows.pipeline.report import RunReport
    from imgrec.search.answers import Answer
    from imgrec.search.upkeep.doctor import Diagnosis
    from imgrec.search.upkeep.unneeded import Garbage
    from imgrec.storage.registry.registry import ImageRow


def print_answer(answer: Answer) -> None:
    """Print the hits of one query."""
    table = _table(f"Most like {printable(answer.query)}  ({answer.index}, {answer.search_ms:.1f} ms)")
    modalities = list(dict.fromkeys(name for hit in answer.hits for name in hit.scores))
    shown = modalities if len(modalities) > 1 else []
    for heading in ("rank", "score", *shown, "id"):
        table.add_column(heading, justify="right")
    table.add_column("photo", overflow="fold")
    for hit in answer.hits:
        scores = ["–" if (score := hit.scores.get(name)) is None else f"{score:.3f}" for name in shown]
        table.add_row(str(hit.rank), f"{hit.score:.3f}", *scores, str(hit.id), escape(hit.path))
    Console().print(table)


def print_report(report: RunReport) -> None:
    """Print what a run did."""
    console = Console()
    if report.scan is not None or report.failures or report.retried:
        console.print(_photo_table(report))
    if report.indexes:
        console.print(_index_table(report))
    seconds = "  ".join(f"{stage} {spent:.1f} s" for stage, spent in report.seconds.items())
    count = report.embedded.images if report.embedded else 0
    speed = f"{count:,} images embedded, {report.images_per_s:,.0f} images/s.  " if count else ""
    console.print(f"{speed}{seconds}", highlight=False)
    if report.scan is not None and report.scan.other_files:
        others = ", ".join(f"{count:,} {escape(name)}" for name, count in _most(report.scan.other_files))
        console.print(f"other files, left alone: {others}", highlight=False)
    if report.failures:
        console.print(f"imgrec failures --library {escape(report.library)}   lists them with reasons", highlight=False)
    modalities = ", ".join(report.modalities)
    console.print(f"library: {escape(report.library)} ({modalities})", highlight=False, soft_wrap=True)
    if report.choice:
        console.print(escape(report.choice), highlight=False, soft_wrap=True)
    if report.did_nothing:
        console.print("nothing was new; MLflow gets this run together with the next that has something to do")
    if report.tracked:
        console.print(
            f"MLflow run: {report.tracked.run_id} of {report.tracked.experiment} in {report.tracked.tracking_uri}",
            highlight=False,
            soft_wrap=True,
        )


def print_estimate(estimate: Estimate) -> None:
    """Print what an ingest would do."""
    table = _table("An ingest would")
    table.add_column("what")
    table.add_column("number", justify="right")
    table.add_row("find photos", f"{estimate.found:,}")
    table.add_row("read as new or changed", f"{estimate.to_read:,}")
    table.add_row("try again after a failure", f"{estimate.retried:,}")
    table.add_row("leave as they are", f"{estimate.unchanged:,}")
    table.add_row("miss (moved, changed or deleted)", f"{estimate.gone:,}")
    table.add_row("take about", _duration(estimate.seconds))
    table.add_row("need disk", size_of(estimate.disk_bytes))
    console = Console()
    console.print(table)
    if estimate.refused:
        console.print(f"It {escape(estimate.refused)}", highlight=False, soft_wrap=True)


def print_status(facts: Mapping[str, Any]) -> None:
    """Print what a library holds."""
    console = Console()
    console.print(
        f"library {escape(facts['library'])} of {escape(facts['images_root'])}", highlight=False, soft_wrap=True
    )
    table = _table(None)
    table.add_column("what")
    table.add_column("number", justify="right")
    for state, count in facts["images"].items():
        table.add_row(f"images {state}", f"{count:,}")
    for modality, count in facts["vectors"].items():
        table.add_row(f"vectors {modality}", f"{count:,}")
    for name, index in facts["indexes"].items():
        if "damaged" in index:
            table.add_row(f"index {name}", "[red]damaged[/red]")
        else:
            table.add_row(f"index {name}", f"{index['vectors']:,} in {size_of(index['bytes'])}")
    console.print(table)


def print_models(root: Path, models: Sequence[StoredModel]) -> None:
    """Print the models that are in the store."""
    console = Console()
    table = _table("Models")
    table.add_column("name", overflow="fold")
    table.add_column("modality")
    table.add_column("dim", justify="right")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("licence", overflow="fold")
    table.add_column("SHA-256 of its weights", overflow="fold")
    for model in models:
        weights = max(model.files, key=lambda file: file.bytes)
        row = (model.name, model.modality, str(model.dim), size_of(model.size), model.licence, weights.sha256)
        table.add_row(*map(escape, row))
    console.print(table)
    where = f"in {root}; efficientnet comes with a package, and `imgrec models fetch` fetches others"
    console.print(escape(where), highlight=False, soft_wrap=True)


def print_failures(rows: Iterable[ImageRow], remedies: Mapping[str, str]) -> None:
    """Print failed images, and what to do about each status."""
    table = _table("Images that cannot be used")
    table.add_column("id", justify="right")
    table.add_column("status")
    table.add_column("reason", overflow="fold")
    table.add_column("photo", overflow="fold")
    seen = set()
    for row in rows:
        seen.add(row.status)
        table.add_row(str(row.id), row.status, escape(row.reason or ""), escape(row.path))
    console = Console()
    console.print(table if table.row_count else "no image failed")
    for status in sorted(seen):
        console.print(f"{status}: {escape(remedies[status])}", highlight=False, soft_wrap=True)


def print_rows(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print the rows of a query."""
    table = _table(None)
    for name in names:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(value)) for value in row))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "" if value is None else str(value)


def print_garbage(garbage: Sequence[Garbage], deleted: bool) -> None:
    """Print what can go, or went."""
    console = Console()
    if not garbage:
        console.print("nothing: the library needs all that it has")
        return
    table = _table("Deleted" if deleted else "Not needed any more")
    table.add_column("kind")
    table.add_column("what", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for item in garbage:
        table.add_row(item.kind, escape(item.what), size_of(item.bytes))
    console.print(table)
    total = size_of(sum(item.bytes for item in garbage))
    console.print(f"{total} freed" if deleted else f"{total}; `imgrec gc --delete` frees them", highlight=False)


def print_diagnoses(library: Path, diagnoses: Sequence[Diagnosis]) -> None:
    """Print findings, each with what to do."""
    console = Console()
    for diagnosis in diagnoses:
        finding = diagnosis.finding
        state = "[green]fixed[/green]" if diagnosis.fixed else "[red]found[/red]"
        console.print(f"{state}  {finding.check}: {escape(finding.what)}", highlight=False, soft_wrap=True)
        if not diagnosis.fixed:
            who = "`imgrec doctor --fix` " if finding.fix is not None else ""
            console.print(f"       {who}{escape(finding.remedy)}", highlight=False, soft_wrap=True)
    remaining = sum(not diagnosis.fixed for diagnosis in diagnoses)
    counted = "1 finding remains" if remaining == 1 else f"{remaining:,} findings remain"
    verdict = counted if remaining else "nothing is wrong any more" if diagnoses else "nothing is wrong"
    console.print(f"{escape(str(library))}: {verdict}", highlight=False, soft_wrap=True)


def _photo_table(report: RunReport) -> Table:
    table = _table("Photos")
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
            "unchanged": report.scan.unchanged,
        }
        for name, count in counts.items():
            if count or name in ("new", "unchanged"):
                table.add_row(name, f"{count:,}")
    if report.retried:
        table.add_row("failed before, tried again", f"{report.retried:,}")
    for status, count in report.failures.items():
        table.add_row(f"[yellow]failed: {status.replace('_', ' ')}[/yellow]", f"{count:,}")
    return table


def _index_table(report: RunReport) -> Table:
    table = _table("Indexes")
    table.add_column("index", overflow="fold")
    table.add_column("")
    for heading in ("vectors", "size", "M/efC/efS", "recall@10", "build"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, built in report.indexes.items():
        parameters = built.manifest.parameters
        table.add_row(
            name,
            built.action,
            f"{built.manifest.live:,}",
            size_of(built.bytes),
            f"{parameters['hnsw_m']}/{parameters['ef_construction']}/{parameters['ef_search']}",
            "–" if built.recall is None else f"{built.recall:.3f}",
            f"{built.build_s:.1f} s",
        )
    return table


def escape(text: str) -> str:
    """Text for rich that comes out as it is, and does nothing to a terminal."""
    return markup.escape(visible(text))


def _table(title: str | None) -> Table:
    return Table(title=title and escape(title), title_justify="left", box=box.SIMPLE_HEAD, title_style="bold")


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:8]


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
