"""What to do where Prefect's server fails, by where it is named."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from prefect.context import get_settings_context
from prefect.settings import PREFECT_API_URL

from imgrec.flows.cli.server import temporary_url

_AGAIN = "then run the command again: it goes on from here (`imgrec --verbose …` shows the details)"
# In the order in which Prefect reads them, https://docs.prefect.io/v3/concepts/settings-and-profiles
_FILES = (".env", "prefect.toml", "pyproject.toml")


def remedy_if_silent() -> str:
    """Say what to do where the server does not answer."""
    if _named_url() is None:
        return "it is a temporary one of this command: run the command again"
    return f"start it with `prefect server start`, or, to run without one, {_forget_it()}"


def remedy_if_full() -> str:
    """Say what to do where the server's database has no space."""
    url = _named_url()
    where = f"on {urlsplit(url).hostname}" if url else f"in {get_settings_context().settings.home}"
    return f"free space {where}, {_AGAIN}"


def _named_url() -> str | None:
    url = get_settings_context().settings.api.url
    return None if url == temporary_url() else url


def _forget_it() -> str:
    if any(name.upper() == "PREFECT_API_URL" for name in os.environ):
        return "unset PREFECT_API_URL"
    profile = get_settings_context().profile
    if PREFECT_API_URL in profile.settings:
        where = f"of the profile {profile.name} in {profile.source}"
        return f"take it out {where} (`prefect config unset PREFECT_API_URL`)"
    files = " or ".join(name for name in _FILES if Path(name).is_file())
    return f"take it out of {files} in {Path.cwd()}"
