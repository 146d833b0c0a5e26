"""What a person or a script sees of a command: lines, JSON, warnings of ours, none of the orchestrator's log."""

import base64
import codecs
import json
import logging
import os
import sys
import warnings

import click


class _PlainHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"imgrec: {record.levelname.lower()}: {visible(record.getMessage())}", err=True)


def speak_plainly(verbose: bool) -> None:
    """Keep Prefect's log off the terminal (its UI still gets it) and show our warnings as single lines.

    Comes before the first import of Prefect, which reads the level from the environment.
    """
    if verbose:
        return
    ignore_missing_home()
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    logger = logging.getLogger("imgrec")
    if not any(isinstance(handler, _PlainHandler) for handler in logger.handlers):
        logger.addHandler(_PlainHandler(logging.WARNING))


def ignore_missing_home() -> None:
    """Keep Prefect from warning that it cannot make its home: `imgrec.flows.cli.server` tells what to do."""
    warnings.filterwarnings("ignore", "Failed to create the Prefect home directory")


def complain(message: str) -> None:
    """Say on standard error what went wrong."""
    click.echo(f"imgrec: error: {visible(message)}", err=True)


def warn(message: str) -> None:
    """Say on standard error what somebody should know of."""
    click.echo(f"imgrec: warning: {visible(message)}", err=True)


def visible(text: str) -> str:
    r"""Show what a terminal would obey (escape sequences, line breaks, turned directions) as `\x1b` and the like.

    File names may hold anything.
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def file_facts(file: str) -> dict[str, str | None]:
    """Say as JSON which file is meant, so that it opens: `file`.

    JSON holds text. Where a name is not UTF-8, `file` is null, and `file_base64` has its bytes in base64: a lone
    surrogate in place of each byte would open in Python alone, and many programs refuse a whole line that has one.
    """
    try:
        file.encode()
    except UnicodeEncodeError:
        return {"file": None, "file_base64": base64.b64encode(os.fsencode(file)).decode()}
    return {"file": file}


def print_json(value: object) -> None:
    """Print one JSON object as a line, at once, for whoever reads along."""
    ascii_only = codecs.lookup(sys.stdout.encoding).name != "utf-8"  # JSON has escapes of its own
    print(json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=str), flush=True)
