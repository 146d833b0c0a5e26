"""The rooms: what may import what, and that all of it is installed."""

import ast
import os
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("conf", "embedders", "flows", "search", "storage", "tasks")
FILES = {
    ".".join(["imgrec", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
}


def imports_of(path: Path) -> set[str]:
    """The modules of ours that a file imports, at its top or inside of its functions."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return named & FILES.keys()


def sub_room(module: str) -> str:
    """The folder that a module is in."""
    return ".".join(FILES[module].relative_to(ROOT).parts[:-1])


def test_no_two_files_import_each_other() -> None:
    graph = {module: imports_of(path) - {module} for module, path in FILES.items() if path.name != "__init__.py"}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("room", "never"),
    [
        ("storage.machine", "storage.registry"),
        ("storage.machine", "storage"),
        ("storage.photos", "storage.registry"),
        ("storage.photos", "storage"),
        ("embedders.models", "embedders.modalities"),
        ("embedders.models", "embedders.work"),
        ("embedders.modalities", "embedders.work"),
        ("search.indexes", "search.upkeep"),
        ("search.indexes", "search.duplicates"),
        ("search.indexes", "search.evaluation"),
        ("search.evaluation", "search.upkeep"),
        ("search", "search.evaluation"),
        ("flows.pipeline", "flows.cli"),
        ("flows.pipeline", "flows"),
    ],
)
def test_rooms_inside_a_room_import_one_way(room: str, never: str) -> None:
    shared = {"imgrec.storage.errors", "imgrec.storage.names"}
    back = [
        f"{module} → {imported}"
        for module, path in FILES.items()
        if sub_room(module) == room
        for imported in imports_of(path)
        if sub_room(imported) == never and imported not in shared and FILES[imported].name != "__init__.py"
    ]
    assert back == []


def test_every_room_is_installed() -> None:
    installed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(["imgrec", *path.parent.relative_to(ROOT).parts]) for path in FILES.values()}
    assert sorted(installed) == sorted(folders | {"imgrec"})


def test_the_links_of_the_namespace_lead_to_the_rooms() -> None:
    assert {path.name for path in (ROOT / "imgrec").iterdir() if path.is_symlink()} == set(ROOMS)


def test_files_of_the_users_that_have_our_names_are_in_nobodys_way(tmp_path: Path) -> None:
    for name in (*ROOMS, "benchmarks", "tests"):
        (tmp_path / f"{name}.py").write_text(f'raise SystemExit("the wrong {name}")')
    (tmp_path / "search.py").write_text("import imgrec.search; print(imgrec.search.Searcher.__name__)")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for command in (
        [sys.executable, "search.py"],
        [str(Path(sys.executable).parent / "imgrec"), "--help"],
        [sys.executable, "-c", "import imgrec.embedders.work.worker, imgrec.flows.pipeline.ingesting"],
    ):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command
