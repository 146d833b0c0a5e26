"""The pages say what the program says."""

import re
import shlex
from pathlib import Path

import click
import pytest

from imgrec.conf.settings import Settings
from imgrec.flows.cli.main import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = DOCS / "settings.md"
COMMANDS = [
    command.strip().removeprefix("imgrec ")
    for page in [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
    for block in re.findall(r"```(?:console|sh)\n(.*?)```", page.read_text(), re.DOTALL)
    for line in block.splitlines()
    for command in line.removeprefix("$ ").split("&&")
    if command.strip().startswith("imgrec ")
]


def table() -> str:
    """The table of all settings; `python -m tests.test_docs` writes it into the page."""
    rows = ["| setting | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default).replace(str(Path.home()), "~")
        rows.append(f"| `{name}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_documented() -> None:
    assert PAGE.read_text().endswith(table()), "run `python -m tests.test_docs`"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_pages_exist_with_their_options(command: str) -> None:
    group: click.Command = cli
    arguments = shlex.split(command, comments=True)
    while isinstance(group, click.Group):
        group = group.commands[arguments.pop(0)]
    group.make_context("imgrec", arguments)  # refuses what it does not know


def test_every_test_that_holds_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


if __name__ == "__main__":
    before, _, _ = PAGE.read_text().partition("| setting |")
    PAGE.write_text(before + table())
