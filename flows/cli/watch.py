"""`imgrec watch`: a library that keeps itself up to date."""

import signal
import threading
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly, visible
from imgrec.flows.cli.options import chosen_of, json_option, library_option, roots_of, settings_options
from imgrec.flows.pipeline.interrupts import cleaning_up

if TYPE_CHECKING:  # knows the index, which takes a second to import
    from imgrec.flows.pipeline.report import RunReport


@click.command()
@click.argument("photos", nargs=-1, metavar="[PHOTOS | NAME=FOLDER]...")
@library_option
@click.option("--look-every", type=click.FloatRange(min=1), default=3_600, show_default=True, metavar="SECONDS",
              help="Look through all folders so often, whatever was heard: a network disk tells nothing of what other "
              "machines change on it.")  # fmt: skip
@settings_options("workers", "device", "models_root", "max_missing_share")
@json_option
@click.pass_obj
def watch(
    verbose: bool, /, photos: tuple[str, ...], library: str | None, look_every: float, as_json: bool, **settings: Any
) -> None:
    """Ingest, and again within seconds of each change in the folders of photos, until Ctrl-C.

    Files that are still being copied are waited for. Nothing else needs to run; a line is printed, or with --json an
    object, for each ingest that did something.

    \b
    imgrec watch ~/Pictures
    imgrec watch --library ~/photos.imgrec --look-every 600
    """
    chosen = Settings.load(images_root=roots_of(photos, ()), library=library, **chosen_of(settings))
    speak_plainly(verbose)
    from imgrec.flows.pipeline import watching

    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    with suppress(KeyboardInterrupt), cleaning_up():  # as it is meant to end
        watching.watch(chosen, lambda report: _tell(report, as_json), stop, look_every)


def _tell(report: "RunReport", as_json: bool) -> None:
    if as_json:
        print_json(report.as_json())
        return
    from imgrec.flows.pipeline.outcome import outcome_name

    failed = f", {report.images['failed']:,} failed" if report.images["failed"] else ""
    click.echo(
        f"{datetime.now():%Y-%m-%d %H:%M:%S}  {visible(outcome_name(report) or '')}  ({report.images['ok']:,} photos"
        f"{failed}; {sum(report.seconds.values()):.1f} s)"
    )
