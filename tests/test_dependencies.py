"""What is imported is declared, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("conf", "embedders", "flows", "search", "storage", "tasks")
# Imported where jobs are submitted, and nowhere else: the extra [cluster] is for those who have one.
ON_DEMAND = "tasks/executors/submitting.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def canonical(requirement: str) -> str:
    name = re.split(r"[\s<>=!~;\[]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    """The distributions that the base and these extras install; `image-recommender[a,b]` stands for extras."""
    found: set[str] = set()
    for requirement in (*PROJECT["dependencies"], *(one for extra in extras for one in EXTRAS[extra])):
        if inner := re.fullmatch(r"image-recommender\[(.+)\]", requirement):
            found |= declared(*inner[1].split(","))
        else:
            found.add(canonical(requirement))
    return found


def imported(folders: Iterable[str], at_start: bool = False) -> dict[str, str]:
    """Top-level name → a place where it is imported; `at_start` only those that are imported with the module."""
    found: dict[str, str] = {}
    for path in sorted(path for folder in folders for path in _modules(ROOT / folder)):
        for name, line in _names(ast.parse(path.read_text()), at_start):
            found.setdefault(name, f"{path.relative_to(ROOT)}:{line}")
    ours = {"imgrec", "benchmarks", "tests"}
    return {name: place for name, place in found.items() if name not in sys.stdlib_module_names | ours}


def distributions_of(name: str) -> set[str]:
    """What brings a top-level name; several may (mlflow and mlflow-skinny)."""
    return {canonical(distribution) for distribution in _installed().get(name, [name])}


@cache
def _installed() -> Mapping[str, list[str]]:
    return packages_distributions()


def _modules(path: Path) -> Iterable[Path]:
    return path.rglob("*.py") if path.is_dir() else [path]


def _names(tree: ast.AST, at_start: bool) -> Iterator[tuple[str, int]]:
    for node in _outside_functions(tree) if at_start else ast.walk(tree):
        match node:
            case ast.Import(names=aliases):
                yield from ((alias.name.partition(".")[0], node.lineno) for alias in aliases)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.partition(".")[0], node.lineno
            case ast.Call(func=ast.Name(id="find_spec"), args=[ast.Constant(value=str(name))]):
                yield name, node.lineno


def _outside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not for_types:
            yield node
            yield from _outside_functions(node)


def undeclared(found: dict[str, str], *extras: str) -> dict[str, str]:
    there = declared(*extras)
    return {name: place for name, place in found.items() if not there & distributions_of(name)}


def test_what_the_rooms_import_is_declared() -> None:
    assert not undeclared(imported(ROOMS), "all", "dask", "jxl")


def test_what_is_imported_with_a_module_is_in_the_base() -> None:
    at_start = imported(ROOMS, at_start=True)
    assert not undeclared({name: place for name, place in at_start.items() if not place.startswith(ON_DEMAND)})


@pytest.mark.parametrize(("folder", "extra"), [("benchmarks", "dev"), ("tests", "dev")])
def test_what_else_is_imported_is_declared(folder: str, extra: str) -> None:
    assert not undeclared(imported([folder]), extra)


def test_the_demo_needs_no_more_than_its_extra() -> None:
    needed = imported(["benchmarks/demo.py", "benchmarks/pictures.py"])
    assert not undeclared(needed, "demo")


def test_what_is_declared_is_imported() -> None:
    found = {brought for name in imported(ROOMS) for brought in distributions_of(name)}
    assert declared("all", "dask", "jxl") - found == set()


def test_what_is_locked_is_all_that_is_declared() -> None:
    locked = {canonical(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert declared("dev") <= locked
