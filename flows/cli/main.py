"""The command line: `imgrec`."""

import os
import re
import sqlite3
import sys
import traceback

import click

from imgrec.conf.errors import SettingsError
from imgrec.flows.cli import (
    care,
    compress,
    duplicates,
    evaluate,
    explore,
    ingest,
    models,
    reading,
    search,
    steps,
    up,
    watch,
)
from imgrec.flows.cli.console import complain
from imgrec.flows.cli.exit_codes import DONE, FAILED, INTERRUPTED, WRONG_USAGE
from imgrec.flows.cli.own_server import use_own_server
from imgrec.storage.errors import ImgrecError


class CommandsInOrder(click.Group):
    """Lists its commands in the order of use, not of the alphabet."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=CommandsInOrder, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="image-recommender", prog_name="imgrec")
@click.option("--verbose", "-v", is_flag=True, help="Show Prefect's log, and tracebacks of errors.")
@click.pass_context
def cli(context: click.Context, verbose: bool) -> None:
    """Which of my photos look like this one?

    \b
    imgrec ingest ~/Pictures          make or renew a library of a folder of photos
    imgrec search photo.jpg           find the photos most like a picture
    imgrec search id:7 --preview hits.png

    Every setting can also stand in imgrec.toml (in the library or the working directory) or in an IMGREC_* variable.
    """
    context.obj = verbose
    if context.invoked_subcommand != "up":
        use_own_server()


for command in (
    ingest.ingest, search.search, duplicates.duplicates, explore.explore, reading.status, reading.failures, reading.sql,
    steps.scan, steps.embed, steps.index, steps.train, ingest.reembed, compress.compress,
    explore.thumbnails, evaluate.evaluate, care.gc, care.doctor, care.backup, up.up, watch.watch, models.models,
):  # fmt: skip
    cli.add_command(command)


def main() -> None:
    """Run the command line; every failure becomes one line and an exit code."""
    verbose = any(argument in ("-v", "--verbose") for argument in sys.argv[1:2])
    try:
        cli(standalone_mode=False)
        code = DONE
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = WRONG_USAGE
    except SettingsError as error:
        complain(str(error))
        code = WRONG_USAGE
    except (KeyboardInterrupt, click.Abort):
        complain("interrupted; the next `imgrec ingest` goes on from here")
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:  # noqa: BLE001 - the last stop: a line for the user, the traceback on request
        if verbose:
            traceback.print_exc()
        complain(_describe(error))
        code = FAILED
    sys.exit(code)


def _describe(error: Exception) -> str:
    text = re.sub(r"\s*\n\s*", " ", str(error)).strip()  # spaces may be a name's
    if isinstance(error, ImgrecError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, sqlite3.OperationalError):
        return f"SQLite: {text}: check the disk that the library is on, then run the command again"
    if text.startswith("Failed to reach API"):
        from imgrec.flows.cli.remedies import remedy_if_silent

        return f"Prefect's server does not answer ({text}): {remedy_if_silent()}"
    if text.startswith("Server error '500"):
        from imgrec.flows.cli.remedies import remedy_if_full

        return f"Prefect's server failed, mostly since the disk of its database is full: {remedy_if_full()}"
    return f"{type(error).__name__}: {text} (run `imgrec --verbose …` for the details)"


if __name__ == "__main__":
    main()
