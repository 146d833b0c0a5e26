"""What a person sees of a flow in a terminal: warnings of ours, and none of the orchestrator's log."""

import logging
import os

import click


class _PlainHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"imgrec: {record.levelname.lower()}: {record.getMessage()}", err=True)


def speak_plainly(verbose: bool) -> None:
    """Keep Prefect's log off the terminal (its UI still gets it) and show our warnings as single lines.

    Comes before the first import of Prefect, which reads the level from the environment.
    """
    if verbose:
        return
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    for room in ("storage", "embedders", "search", "tasks"):
        logger = logging.getLogger(room)
        if not any(isinstance(handler, _PlainHandler) for handler in logger.handlers):
            logger.addHandler(_PlainHandler(logging.WARNING))
