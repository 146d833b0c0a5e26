"""What the writing commands have in common: how they begin, a question that may come up, and the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from imgrec.flows.cli.console import complain, print_json, speak_plainly
from imgrec.flows.pipeline.interrupts import cleaning_up
from imgrec.storage.errors import PhotosVanishedError

if TYPE_CHECKING:  # knows Prefect, which takes a second to import
    from imgrec.flows.pipeline.report import RunReport


def begin(verbose: bool) -> None:
    """Prepare a command that runs a flow; comes before the import of the flow."""
    speak_plainly(verbose)
    from imgrec.flows.cli.server import tame_temporary_server

    tame_temporary_server()


def asking_if_vanished(flow: Callable[..., RunReport], options: Mapping[str, Any], as_json: bool) -> RunReport:
    """Run a flow that scans; where too many photos vanished, ask whoever sits at the terminal."""
    try:
        return flow(**options)
    except PhotosVanishedError as error:
        if not sys.stdin.isatty() or as_json:
            raise
        complain(str(error))
        with cleaning_up():  # of the terminal
            click.confirm("Mark them missing?", abort=True, err=True)
        return flow(**{**options, "accept_missing": True})


def show_report(report: RunReport, as_json: bool) -> None:
    """Print what a run did."""
    if as_json:
        print_json(report.as_json())
    else:
        from imgrec.flows.cli.tables import print_report

        print_report(report)
    if report.scan is not None and report.scan.found == 0:
        click.echo(f"imgrec: warning: no photos in {report.images_root}", err=True)
