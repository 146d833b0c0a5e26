"""What a run did, for whoever watches: a name that says it in a few letters, and its closing tables in Markdown."""

from pathlib import Path

from imgrec.flows.pipeline.report import RunReport

MINUS = "\N{MINUS SIGN}"


def outcome_name(report: RunReport) -> str | None:
    """Name a run by what came and went, as in `photos +128 −3`; None for runs that look at no folder."""
    if report.scan is None:
        return None
    did = report.scan.identified
    came, went = did.new + did.copied + did.returned, did.missing + did.excluded
    counts = [f"+{came:,}" if came else "", f"{MINUS}{went:,}" if went else ""]
    counts += [f"{count:,} {what}" for what, count in (("changed", did.changed), ("moved", did.moved)) if count]
    folders = report.roots.folders
    where = ", ".join(name or Path(folder).name for name, folder in folders.items())
    return f"{where} {' '.join(filter(None, counts)) or 'as it was'}"


def outcome_tables(report: RunReport) -> str:
    """The closing tables, and where MLflow has the run. Neither names nor folders of photos are in it."""
    parts = [_table(("photos", "number"), [(what, f"{count:,}") for what, count in _photos(report).items()])]
    if report.indexes:
        heading = ("index", "", "kind", "vectors", "recall@10", "build, s")
        parts.append(
            _table(
                heading,
                [
                    (
                        name,
                        built.action,
                        built.manifest.kind,
                        f"{built.manifest.live:,}",
                        "" if built.recall is None else f"{built.recall:.3f}",
                        f"{built.build_s:.1f}",
                    )
                    for name, built in report.indexes.items()
                ],
            )
        )
    parts.append(_table(("stage", "seconds"), [(stage, f"{spent:.1f}") for stage, spent in report.seconds.items()]))
    if run := report.tracked:
        told = f"MLflow run `{run.run_id}` of `{run.experiment}`"
        if run.tracking_uri.startswith("http"):
            url = f"{run.tracking_uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"
            told = f"[{told}]({url})"
        parts.append(told)
    return "\n\n".join(parts)


def _photos(report: RunReport) -> dict[str, int]:
    counts: dict[str, int] = {}
    if report.scan is not None:
        did = report.scan.identified
        counts = {
            "new": did.new, "copies": did.copied, "moved": did.moved, "changed": did.changed,
            "back again": did.returned, "missing": did.missing, "excluded": did.excluded,
            "unchanged": report.scan.unchanged,
        }  # fmt: skip
    if report.embedded is not None:
        counts["embedded"] = report.embedded.images
    shown = {what: count for what, count in counts.items() if count}
    shown |= {f"failed: {status.replace('_', ' ')}": count for status, count in report.failures.items()}
    return {**shown, "in the library": report.images["ok"]}


def _table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (heading, ("---",) * len(heading), *rows))
