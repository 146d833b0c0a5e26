"""docs/settings.md says what conf/settings.py says, and docs/promises.md names tests that are there."""

import re
from pathlib import Path

from conf.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "settings.md"


def table() -> str:
    """The table of all settings; `python -m tests.test_docs` writes it into the page."""
    rows = ["| setting | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else str(field.default).replace(str(Path.home()), "~")
        rows.append(f"| `{name}` | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_documented() -> None:
    assert PAGE.read_text().endswith(table()), "run `python -m tests.test_docs`"


def test_every_test_that_holds_a_promise_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (ROOT / "docs" / "promises.md").read_text())
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).is_file()] == []


if __name__ == "__main__":
    before, _, _ = PAGE.read_text().partition("| setting |")
    PAGE.write_text(before + table())
