"""Folders and files may have any name: in URIs, on the terminal, and in hints that are pasted into a shell."""

import os
import re
import shlex
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from imgrec.flows.cli.tables import print_diagnoses, print_rows, print_status
from imgrec.search.upkeep.doctor import Diagnosis
from imgrec.search.upkeep.findings import Finding
from imgrec.storage.errors import LibraryNotFoundError
from imgrec.storage.library import open_library
from imgrec.storage.registry.database import Database
from imgrec.tasks.tracking import sqlite_uri
from tests.flows.conftest import Imgrec

NAMES = [
    "My Pictures", "two  spaces", "-x", "My%20Pictures", "50% off", "what?", "what?mode=memory&cache=shared", "#1",
    "a&b", "[family]", "[red]red[/red]", "back\\", "back\\[b]", ":cat:", "it's", 'say "cheese"', "$HOME `id`", "a;b",
    "a:b", "~", "~root", "*", "line\nbreak", "\N{CAMERA}é", "sqlite:",
]  # fmt: skip
WORST = "-x  [b] %20?mode=memory#&'\":cat: é\\"


@pytest.fixture(params=NAMES, ids=ascii)
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / str(request.param)
    folder.mkdir(parents=True)
    return folder


def test_mlflow_opens_the_database_at_this_very_path(folder: Path) -> None:
    from mlflow.store.db.utils import _make_parent_dirs_if_sqlite, create_sqlalchemy_engine

    uri = sqlite_uri(folder / "mlflow.db")
    _make_parent_dirs_if_sqlite(uri)
    engine = create_sqlalchemy_engine(uri)  # type: ignore[no-untyped-call] # MLflow has no types here
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("CREATE TABLE runs (id)")
    assert os.listdir(folder) == ["mlflow.db"]
    assert len(os.listdir(folder.parent)) == 1  # not even an empty folder of a quoted name


def test_the_registry_is_read_at_this_very_path(folder: Path) -> None:
    with Database.open_for_writing(folder / "registry.sqlite"):
        pass
    with Database.open_for_reading(folder / "registry.sqlite") as database:
        assert database.connection.execute("SELECT count(*) FROM images").fetchone() == (0,)
    assert len(os.listdir(folder.parent)) == 1


def test_a_hint_can_be_pasted(folder: Path) -> None:
    with pytest.raises(LibraryNotFoundError) as raised:
        open_library(folder)
    hint = re.fullmatch(r"no library at .*: make one with `(.*)`", str(raised.value), re.DOTALL)
    assert hint
    assert shlex.split(hint[1]) == ["imgrec", "ingest", "PHOTOS", "--library", str(folder)]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_is_printed_as_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = name.replace("\n", "\\n")
    print_status({"library": f"/{name}", "root": name, "roots": {}, "images": {}, "vectors": {}, "indexes": {}})
    assert capsys.readouterr().out.startswith(f"library /{shown} of {shown}\n")
    print_diagnoses(Path(name), [Diagnosis(Finding("shards", name, name), fixed=False)])
    assert capsys.readouterr().out.split("\n")[:3] == [
        f"found  shards: {shown}", f"       {shown}", f"{shown}: 1 finding remains",
    ]  # fmt: skip
    print_rows(["name"], [[name]])
    assert f"  {shown}\n" in capsys.readouterr().out


def test_commands_take_the_worst_of_names(
    photos: Path, tmp_path: Path, own_mlflow: None, imgrec: Imgrec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("COLUMNS", "300")
    root, library, copy = (tmp_path / f"{what}{WORST}" for what in ("photos", "library", "copy"))
    photos.rename(root)
    query = root / f"query{WORST}.png"
    shutil.copy(next(root.iterdir()), query)
    before = set(os.listdir(tmp_path))

    done = imgrec("ingest", root, "--library", library)
    assert (done.code, done.err) == (0, "")
    assert f"Next: imgrec search PHOTO --library {shlex.quote(str(library))}\n" in done.out
    assert len(MlflowClient(sqlite_uri(library / "mlflow.db")).search_experiments()) == 2

    (library / "imgrec.toml").write_text("top_k = 3\n")
    sheet = tmp_path / f"sheet{WORST}.png"
    found = imgrec("search", query, "--library", library, "--preview", sheet)
    assert (found.code, found.err) == (0, "")
    assert f"Most like {query} " in found.out
    assert f"  {query.name}\n" in found.out
    assert "\n     3  " in found.out
    assert "\n     4  " not in found.out
    assert f"preview: {sheet}\n" in found.out
    assert imgrec("sql", "select count(path) from color", "--library", library).out.split()[-1] == "7"
    assert f"library {library} of {root}" in imgrec("status", "--library", library).out
    saved = imgrec("backup", copy, "--library", library)
    assert (saved.code, saved.err) == (0, "")
    assert saved.out.startswith(f"{copy}: ")
    assert imgrec("doctor", "--library", copy).out == f"{copy}: nothing is wrong\n"
    assert set(os.listdir(tmp_path)) == {*before, library.name, copy.name, sheet.name}


def test_a_backup_to_a_name_that_is_not_utf_8_is_refused(imgrec: Imgrec, tmp_path: Path) -> None:
    done = imgrec("backup", os.fsdecode(os.fsencode(tmp_path / "copy") + b"\xff"))
    assert (done.code, done.out) == (2, "")
    assert "the name of this folder is not UTF-8, which Prefect and Arrow cannot take: rename it" in done.err
    assert not os.listdir(tmp_path)
