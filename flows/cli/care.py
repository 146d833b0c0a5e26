"""Looking after a library: `imgrec gc`, `doctor`, `backup`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from imgrec.conf.errors import SettingsError
from imgrec.conf.settings import Settings, expand_folder, find_library
from imgrec.flows.cli.console import print_json, speak_plainly, visible
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.options import json_option, library_option
from imgrec.flows.pipeline.interrupts import cleaning_up

if TYPE_CHECKING:
    from imgrec.search.indexes.parameters import IndexParameters
    from imgrec.search.upkeep.doctor import Diagnosis


@click.command()
@library_option
@click.option("--delete", is_flag=True, help="Delete what is listed; without this, nothing is.")
@click.option("--keep-hours", type=click.FloatRange(min=0), default=24, show_default=True,
              help="Keep index versions replaced less than this ago; a reader may have them open.")  # fmt: skip
@click.option("--missing-days", type=click.FloatRange(min=0), metavar="DAYS",
              help="Also forget photos that have been missing for longer: rows, ids and vectors.")  # fmt: skip
@json_option
@click.pass_obj
def gc(
    verbose: bool, /, library: str | None, delete: bool, keep_hours: float, missing_days: float | None, as_json: bool
) -> None:
    """List what a library no longer needs, and how much space that takes; delete it with --delete.

    That is: vectors, shards and models of settings that neither the library nor an index uses any more, replaced
    versions of indexes, what killed runs left, damaged shards that were set aside, and free space in registry.sqlite.

    Photos that are missing keep their ids and vectors, so that nothing is computed when they come back, unless
    --missing-days says how long to wait for them.

    \b
    imgrec gc
    imgrec gc --delete
    imgrec gc --delete --missing-days 365
    """
    speak_plainly(verbose)
    from imgrec.search.upkeep.garbage import collect_garbage
    from imgrec.storage.machine.os_errors import explaining

    root = Settings.load(library=library).library
    with explaining(root), cleaning_up():
        garbage = collect_garbage(root, delete, keep_hours * 3600, missing_days)
    if as_json:
        items = [{"kind": item.kind, "what": item.what, "bytes": item.bytes} for item in garbage]
        total = sum(item.bytes for item in garbage)
        print_json({"library": str(root), "deleted": delete, "bytes": total, "garbage": items})
    else:
        from imgrec.flows.cli.tables import print_garbage

        print_garbage(garbage, delete)


@click.command()
@library_option
@click.option("--fix", is_flag=True, help="Mend what can be mended, then look again.")
@click.option("--all", "thorough", is_flag=True, help="Compare all vectors, not a sample.")
@json_option
@click.pass_obj
def doctor(verbose: bool, /, library: str | None, fix: bool, thorough: bool, as_json: bool) -> None:
    """Check a library: registry, shards, vectors, indexes, models and settings, against each other and the disk.

    Every finding comes with what to do. --fix takes vectors from where they are whole (shards, registry) to where they
    are not, and builds indexes anew; photos are never touched. Ends with 0 if nothing is wrong or left, else with 1.

    \b
    imgrec doctor
    imgrec doctor --fix
    """
    speak_plainly(verbose)
    from imgrec.search.upkeep.doctor import examine
    from imgrec.storage.machine.os_errors import explaining

    diagnoses = []
    try:
        chosen = Settings.load(library=library)
        root = chosen.library
    except SettingsError as error:
        diagnoses.append(_of_settings(error))
        root, chosen = find_library({"library": library}).resolve(), Settings.model_construct()
    with explaining(root), cleaning_up():
        diagnoses += examine(root, _parameters(chosen), fix, thorough, chosen.models_root)
    remaining = sum(not diagnosis.fixed for diagnosis in diagnoses)
    if as_json:
        findings = [
            {
                "check": finding.check,
                "what": finding.what,
                "remedy": finding.remedy,
                "fixable": finding.fix is not None,
                "fixed": diagnosis.fixed,
            }
            for diagnosis in diagnoses
            for finding in (diagnosis.finding,)
        ]
        print_json({"library": str(root), "remaining": remaining, "findings": findings})
    else:
        from imgrec.flows.cli.tables import print_diagnoses

        print_diagnoses(root, diagnoses)
    if remaining:
        raise SystemExit(FAILED)


def _target(_context: click.Context, _argument: click.Parameter, value: str) -> Path:
    try:
        return cast(Path, expand_folder(value))
    except ValueError as error:
        raise click.BadParameter(f"{visible(value)}: {error}") from None


@click.command()
@click.argument("target", callback=_target)
@library_option
@click.option("--no-verify", is_flag=True, help="Do not check the copy, which reads all of it.")
@json_option
@click.pass_obj
def backup(verbose: bool, /, target: Path, library: str | None, no_verify: bool, as_json: bool) -> None:
    """Copy a library to the folder TARGET, also while an ingest runs.

    The copy is a library of one moment: `imgrec search --library TARGET` works on it, and to restore it, copy it back.
    A second backup to the same folder copies only what is new. The photos themselves are not in it.

    \b
    imgrec backup /mnt/backup/photos.imgrec
    cp -a /mnt/backup/photos.imgrec ~/.local/share/imgrec/library        restore
    """
    speak_plainly(verbose)
    from imgrec.search.upkeep.backup import back_up

    chosen = Settings.load(library=library)
    with cleaning_up():
        done = back_up(chosen.library, target, _parameters(chosen), verify=not no_verify)
    size, kept = sum(done.copied.values()), len(done.files) - len(done.copied)
    if as_json:
        facts = {"library": chosen.library, "target": done.target, "verified": not no_verify}
        print_json({**facts, "copied": len(done.copied), "bytes": size, "kept": kept})
    else:
        from imgrec.flows.cli.tables import size_of

        click.echo(
            f"{visible(str(done.target))}: {len(done.copied):,} files ({size_of(size)}) copied beside the registry, "
            f"{kept:,} were there; {'not checked' if no_verify else 'checked'}"
        )


def _of_settings(error: SettingsError) -> Diagnosis:
    from imgrec.search.upkeep.doctor import Diagnosis
    from imgrec.search.upkeep.findings import Finding

    return Diagnosis(Finding("settings", str(error), "correct it; until then no command runs"))


def _parameters(chosen: Settings) -> IndexParameters:
    from imgrec.search.indexes.parameters import IndexParameters

    return IndexParameters(**{field.name: getattr(chosen, field.name) for field in fields(IndexParameters)})
