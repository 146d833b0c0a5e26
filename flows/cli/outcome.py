"""What the writing commands have in common: who runs them, a question that may come up, and the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.collecting import importing
from imgrec.flows.cli.console import complain, print_json, speak_plainly, warn
from imgrec.flows.cli.other_files import describe_left_alone
from imgrec.flows.pipeline.interrupts import cleaning_up
from imgrec.storage.errors import PhotosVanishedError
from imgrec.storage.photos.formats import describe_extras
from imgrec.storage.photos.walk import SYMLINK
from imgrec.tasks.tracking import import_mlflow

if TYPE_CHECKING:  # knows Prefect, which takes a second to import
    from imgrec.flows.pipeline.report import RunReport


# The flow of each stage of the pipeline, which has a file of its own.
_FLOWS = {"ingest": "ingest_images", "scan": "scan_images", "embed": "embed_images", "build": "build_indexes"}


def run_stage(
    stage: str, chosen: Settings, sources: Mapping[str, Any], flags: Mapping[str, Any], as_json: bool, verbose: bool
) -> None:
    """Run a stage of the pipeline, or all of it (`ingest`), and print its report.

    It is a Prefect flow, which reads the settings again from their `sources`, or runs in this process, as
    `chosen.orchestrate` says.
    """
    if chosen.orchestrate == "none":
        speak_plainly(verbose)
        from imgrec.flows.pipeline import ingesting
        from imgrec.tasks.calls import PlainCalls

        run: Callable[..., RunReport] = partial(getattr(ingesting, stage), chosen, PlainCalls(chosen.retries))
        options = flags
    else:
        run = load_flow(_FLOWS[stage], verbose)
        options = {**sources, **flags}
    show_report(asking_if_vanished(run, options, as_json), as_json, verbose)


def load_flow(name: str, verbose: bool) -> Callable[..., Any]:
    """Import the flow of `imgrec.flows.<name>`, with the server that its runs are told to.

    A temporary server takes seconds to start, and in that time all is imported that the flow will need.
    """
    speak_plainly(verbose)
    from imgrec.flows.cli.server import start_temporary_server

    server = start_temporary_server()
    with importing():
        flow = getattr(import_module(f"imgrec.flows.{name}"), name)
        import_mlflow()
    if server is not None:
        server.wait_until_it_answers()
    return cast("Callable[..., Any]", flow)


def asking_if_vanished(run: Callable[..., RunReport], options: Mapping[str, Any], as_json: bool) -> RunReport:
    """Run something that scans; where too many photos vanished, ask whoever sits at the terminal."""
    try:
        return run(**options)
    except PhotosVanishedError as error:
        if not sys.stdin.isatty() or as_json:
            raise
        complain(str(error))
        with cleaning_up():  # of the terminal
            click.confirm("Mark them missing?", abort=True, err=True)
        return run(**{**options, "accept_missing": True})


def show_report(report: RunReport, as_json: bool, verbose: bool) -> None:
    """Print what a run did, and warn of what it could not look at."""
    if as_json:
        print_json(report.as_json())
    else:
        from imgrec.flows.cli.summary import print_report

        print_report(report, verbose)
    if report.scan is not None and report.scan.found == 0:
        links = report.scan.other_files.get(SYMLINK, 0)
        why = [f"{links:,} symbolic links were left: --follow-links"] if links else []
        told = "; ".join([f"no photos in {report.roots}", *why, *describe_extras(report.scan.other_files)])
        warn(told)
    for name, reason in (report.scan.left_alone if report.scan else {}).items():
        warn(describe_left_alone(report.roots, name, reason))
