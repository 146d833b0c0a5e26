"""What a person sees of a flow in a terminal: warnings of ours, and none of the orchestrator's log."""

import logging

import click


class _PlainHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(f"imgrec: {record.levelname.lower()}: {record.getMessage()}", err=True)


def speak_plainly(verbose: bool) -> None:
    """Keep Prefect's log off the terminal (its UI still gets it) and show our warnings as single lines."""
    if verbose:
        return
    import prefect  # noqa: F401 - sets up its logging, which is then changed
    from prefect.logging.handlers import PrefectConsoleHandler

    names = [name for name in logging.root.manager.loggerDict if name.startswith("prefect")]
    for logger in (logging.getLogger(), *map(logging.getLogger, names)):
        for handler in logger.handlers:
            if isinstance(handler, PrefectConsoleHandler):
                handler.setLevel(logging.CRITICAL + 1)
    handler = _PlainHandler(logging.WARNING)
    for room in ("storage", "embedders", "search", "tasks"):
        logging.getLogger(room).addHandler(handler)
