"""What is told of a Prefect server that fails names only what is set."""

import logging
import os
from contextlib import chdir
from pathlib import Path

import pytest
from prefect import context
from prefect.context import SettingsContext
from prefect.settings import PREFECT_API_URL, Profile, Settings
from prefect.settings.models.api import APISettings

from imgrec.flows.cli.main import _describe
from imgrec.flows.cli.server import UI_URL, start_temporary_server
from imgrec.flows.cli.server_named import API_URL

DEAD = "http://user:secret@prefect.example:4200/api"
SILENT = RuntimeError("Failed to reach API at http://prefect.example:4200/api/")
FULL = RuntimeError("Server error '500 Internal Server Error' for url 'http://prefect.example:4200/api/flows/'")


def configured(url: str | None, profile: Profile) -> SettingsContext:
    return SettingsContext(profile=profile, settings=Settings(api=APISettings(url=url)))


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_a_variable_is_named_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", DEAD)
    with configured(DEAD, Profile(name="work", settings={})):
        assert _describe(SILENT).endswith(
            "start it with `prefect server start`, or, to run without one, unset PREFECT_API_URL"
        )


def test_a_profile_is_named_where_it_names_the_server(tmp_path: Path) -> None:
    file = tmp_path / "profiles.toml"
    with configured(DEAD, Profile(name="work", settings={PREFECT_API_URL: DEAD}, source=file)):
        told = _describe(SILENT)
    assert f"take it out of the profile work in {file} (`prefect config unset PREFECT_API_URL`)" in told


def test_a_settings_file_of_the_working_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "prefect.toml").touch()
    with chdir(tmp_path), configured(DEAD, Profile(name="work", settings={})):
        assert _describe(SILENT).endswith(f"take it out of prefect.toml in {tmp_path}")


def test_of_a_temporary_server_no_setting_is_named() -> None:
    with configured(None, Profile(name="ephemeral", settings={})):
        assert _describe(SILENT).endswith("it is a temporary one of this command: run the command again")


def test_what_names_a_temporary_server_is_not_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect finds it by a variable of this process, which the user can neither see nor unset."""
    for name in ("PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name in (API_URL, UI_URL):
        monkeypatch.setenv(name, "")  # so that they are restored
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(context, "GLOBAL_SETTINGS_CONTEXT", context.GLOBAL_SETTINGS_CONTEXT)
    monkeypatch.chdir(tmp_path)
    with configured(None, Profile(name="ephemeral", settings={})):
        server = start_temporary_server()
    assert server is not None
    server.end()
    assert os.environ[API_URL] == server.url
    with configured(server.url, Profile(name="ephemeral", settings={})) as configuration:
        assert _describe(SILENT).endswith("it is a temporary one of this command: run the command again")
        assert f"free space in {configuration.settings.home}, then" in _describe(FULL)


def test_the_full_disk_is_the_servers() -> None:
    with configured(DEAD, Profile(name="work", settings={})) as configuration:
        assert "free space on prefect.example, then" in _describe(FULL)
        assert "secret" not in _describe(FULL)
    with configured(None, Profile(name="ephemeral", settings={})) as configuration:
        assert f"free space in {configuration.settings.home}, then" in _describe(FULL)
