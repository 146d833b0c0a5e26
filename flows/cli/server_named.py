"""Whether a Prefect server is configured, told without Prefect, whose import takes a second or two."""

import os
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

API_URL = "PREFECT_API_URL"


def server_is_named() -> bool:
    """Whether runs of ours are shown by some server: PREFECT_API_URL, the active profile or ./prefect.toml names one.

    See https://docs.prefect.io/v3/concepts/settings-and-profiles. When in doubt (a file that cannot be read), yes: then
    Prefect itself decides.
    """
    if os.environ.get(API_URL):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path("~/.prefect").expanduser())
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")
    try:
        profiles = _read(path)
        project = _read(Path("prefect.toml")) | _read(Path("pyproject.toml")).get("tool", {}).get("prefect", {})
    except (OSError, ValueError):
        return True
    active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
    profile = profiles.get("profiles", {}).get(active, {})
    return bool(profile.get(API_URL) or project.get("api", {}).get("url") or _in_dotenv())


def _read(path: Path) -> dict[str, Any]:
    with suppress(FileNotFoundError):
        return tomllib.loads(path.read_text())
    return {}


def _in_dotenv() -> bool:
    with suppress(OSError, ValueError):
        return API_URL in Path(".env").read_text()
    return False
