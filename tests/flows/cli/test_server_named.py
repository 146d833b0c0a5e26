"""Whether a server is configured, as Prefect itself would say."""

from pathlib import Path

import pytest

from imgrec.flows.cli.server_named import server_is_named

URL = "http://127.0.0.1:4200/api"
PROFILES = """
active = "{active}"
[profiles.local]
PREFECT_API_URL = "http://127.0.0.1:4200/api"
[profiles.ephemeral]
PREFECT_SERVER_ALLOW_EPHEMERAL_MODE = "true"
"""


@pytest.fixture(autouse=True)
def nothing_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    (tmp_path / "prefect").mkdir()
    monkeypatch.chdir(tmp_path)


def test_none_is_named_where_nothing_says_so() -> None:
    assert not server_is_named()


def test_a_variable_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", URL)
    assert server_is_named()


@pytest.mark.parametrize(("active", "named"), [("local", True), ("ephemeral", False), ("unknown", False)])
def test_the_active_profile_may_name_one(active: str, named: bool, tmp_path: Path) -> None:
    (tmp_path / "prefect" / "profiles.toml").write_text(PROFILES.format(active=active))
    assert server_is_named() is named


def test_another_profile_may_be_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prefect" / "profiles.toml").write_text(PROFILES.format(active="local"))
    monkeypatch.setenv("PREFECT_PROFILE", "ephemeral")
    assert not server_is_named()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prefect.toml", f'[api]\nurl = "{URL}"'),
        ("pyproject.toml", f'[tool.prefect.api]\nurl = "{URL}"'),
        (".env", f"PREFECT_API_URL={URL}"),
    ],
)
def test_files_of_the_working_directory_may_name_one(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert server_is_named()


def test_a_profile_that_cannot_be_read_is_for_prefect_to_complain_of(tmp_path: Path) -> None:
    (tmp_path / "prefect" / "profiles.toml").write_text("= nonsense")
    assert server_is_named()
