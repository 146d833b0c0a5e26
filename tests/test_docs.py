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
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CHANGELOG.md"]
SOURCES = sorted(
    path
    for room in ("conf", "flows", "tasks", "search", "embedders", "storage", "benchmarks", "tests")
    for path in (ROOT / room).rglob("*.py")
)
COMMANDS = [
    command.strip().removeprefix("imgrec ")
    for page in PAGES
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether a link's file is there, and has the heading that it names."""
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_pages_that_code_names_are_there() -> None:
    named = {(path, page) for path in SOURCES for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text())}
    assert named
    assert [(path, page) for path, page in named if not (ROOT / page).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_code_that_pages_name_are_there(page: Path) -> None:
    rooms = "conf|flows|tasks|search|embedders|storage|benchmarks|tests"
    named = re.findall(rf"(?<![\w/-])(?:{rooms})/[\w/]+\.py\b", page.read_text())
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_the_index_of_decisions_lists_each_once_by_its_title() -> None:
    folder = DOCS / "decisions"
    listed = re.findall(r"^- \[(.+)\]\((.+\.md)\): .+$", (folder / "README.md").read_text(), re.MULTILINE)
    decisions = [path for path in folder.glob("*.md") if path.name != "README.md"]
    titles = [(path.read_text().partition("\n")[0].removeprefix("# "), path.name) for path in decisions]
    assert sorted(listed) == sorted(titles)


def test_every_test_that_holds_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


if __name__ == "__main__":
    before, _, _ = PAGE.read_text().partition("| setting |")
    PAGE.write_text(before + table())
