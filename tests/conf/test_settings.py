"""Where settings come from, and what is allowed."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgrec.conf.environment import prepare_environment
from imgrec.conf.errors import SettingsError
from imgrec.conf.settings import SETTINGS_FILE, Settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory and home, and no IMGREC_* variables."""
    for name in list(os.environ):
        if name.upper().startswith("IMGREC_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


def write(folder: Path, text: str) -> None:
    (folder / SETTINGS_FILE).write_text(text)


# Precedence


def test_each_source_wins_over_the_one_before(here: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings.load().top_k
    assert Settings.load(library=library).top_k == default
    write(library, "top_k = 11")
    assert Settings.load(library=library).top_k == 11
    write(here, "top_k = 12")
    assert Settings.load(library=library).top_k == 12
    monkeypatch.setenv("IMGREC_TOP_K", "13")
    assert Settings.load(library=library).top_k == 13
    assert Settings.load(library=library, top_k=14).top_k == 14
    assert Settings.load(library=library, top_k=None).top_k == 13
    assert default not in (11, 12, 13, 14)


def test_sources_mix(here: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(library, "top_k = 11\nhnsw_m = 11\nretries = 11\nworkers = 11")
    write(here, "hnsw_m = 12\nretries = 12\nworkers = 12")
    monkeypatch.setenv("IMGREC_RETRIES", "13")
    monkeypatch.setenv("imgrec_workers", "13")
    loaded = Settings.load(library=library, workers=14)
    assert (loaded.top_k, loaded.hnsw_m, loaded.retries, loaded.workers) == (11, 12, 13, 14)


@pytest.mark.parametrize("how", ["flag", "variable", "file"])
def test_the_library_is_found_before_its_settings_are_read(
    here: Path, library: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    write(library, "top_k = 11")
    flags: dict[str, Any] = {}
    if how == "flag":
        flags = {"library": str(library)}
    elif how == "variable":
        monkeypatch.setenv("IMGREC_LIBRARY", str(library))
    else:
        write(here, f'library = "{library}"')
    loaded = Settings.load(**flags)
    assert (loaded.library, loaded.top_k) == (library, 11)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "lib").mkdir(parents=True)
    write(home / "lib", "top_k = 11")
    loaded = Settings.load(library="~/lib", images_root="~/photos")
    assert (loaded.library, loaded.images_root, loaded.top_k) == (home / "lib", home / "photos", 11)
    monkeypatch.setenv("IMGREC_LIBRARY", "~/lib")
    assert Settings.load().library == home / "lib"


def test_a_relative_folder_is_one_of_the_working_directory(here: Path) -> None:
    loaded = Settings.load(library="lib", images_root="photos")
    assert (loaded.library, loaded.images_root) == (here / "lib", here / "photos")


def test_only_given_vector_settings_may_differ_from_a_librarys(here: Path) -> None:
    assert Settings.load().given_vector_settings() == {}
    expected = {
        "bins": [8, 8, 8],
        "decode_min_side": 448,
        "sift_codebook": "default",
        "precision": "float32",
        "cpu_runtime": "onnxruntime",
        "icc_profiles": "srgb",
    }
    assert Settings.load().vector_settings() == expected
    assert Settings.load(bins="4").given_vector_settings() == {"bins": [4, 4, 4]}
    write(here, "decode_min_side = 448")
    assert Settings.load().given_vector_settings() == {"decode_min_side": 448}


def test_former_names_are_understood_in_every_source(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "batch_size = 3\nsift_model = 'default'")
    assert Settings.load().chunk_size == 3
    monkeypatch.setenv("IMGREC_BATCH_SIZE", "4")
    assert Settings.load().chunk_size == 4
    assert Settings.load(batch_size=5).chunk_size == 5
    assert Settings.load(chunk_size=6).chunk_size == 6
    monkeypatch.setenv("IMGREC_CHUNK_SIZE", "7")
    assert Settings.load().chunk_size == 7
    assert Settings.load().given_vector_settings() == {"sift_codebook": "default"}


def test_settings_do_not_change_once_they_are_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load().top_k = 5


# Spellings


@pytest.mark.parametrize(
    "bins", ["8x4x2", "8,4,2", "8, 4, 2", "[8, 4, 2]", "(8,4,2)", [8, 4, 2], (8, 4, 2), ["8", 4, 2]]
)
def test_bins_have_many_spellings(bins: object) -> None:
    assert Settings.load(bins=bins).bins == (8, 4, 2)


@pytest.mark.parametrize("bins", [6, "6", "6x6x6", [6, 6, 6]])
def test_one_number_of_bins_is_for_all_three(bins: object) -> None:
    assert Settings.load(bins=bins).bins == (6, 6, 6)


@pytest.mark.parametrize("text", ["bins = [8, 4, 2]", 'bins = "8x4x2"'])
def test_bins_may_stand_in_a_file(here: Path, text: str) -> None:
    write(here, text)
    assert Settings.load().bins == (8, 4, 2)


@pytest.mark.parametrize("text", ["8x4x2", "8,4,2", "[8, 4, 2]"])
def test_bins_may_stand_in_a_variable(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("IMGREC_BINS", text)
    assert Settings.load().bins == (8, 4, 2)


@given(st.tuples(*[st.integers(1, 64)] * 3), st.sampled_from(["x", ",", ", "]))
def test_bins_come_back_as_they_were_written(bins: tuple[int, int, int], separator: str) -> None:
    assert Settings.load(bins=separator.join(map(str, bins))).bins == bins


@pytest.mark.parametrize("names", ["color,sift", " color , sift ,", ["color", "sift"]])
def test_names_may_be_a_list_or_text(names: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load(modalities=names).modalities == ("color", "sift")
    if isinstance(names, str):
        monkeypatch.setenv("IMGREC_INDEXES", names)
        assert Settings.load().indexes == ("color", "sift")


# What is not allowed


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("top_k", 0, "greater than or equal to 1"),
        ("top_k", "many", "valid integer"),
        ("top_k", 1.5, "valid integer"),
        ("bins", "8x8", "field required"),
        ("bins", "8x8x8x8", "at most 3 items"),
        ("bins", "65", "less than or equal to 64"),
        ("bins", "0x1x1", "greater than or equal to 1"),
        ("bins", "axbxc", "valid integer"),
        ("bins", "", "valid integer"),
        ("bins", 8.5, "valid tuple"),
        ("decode_min_side", 63, "greater than or equal to 64"),
        ("max_megapixels", 0, "greater than 0"),
        ("max_missing_share", 1.01, "less than or equal to 1"),
        ("max_failed_share", -0.1, "greater than or equal to 0"),
        ("max_failed_share", "nan", "less than or equal to 1"),
        ("workers", 0, "greater than or equal to 1"),
        ("modalities", "", "at least 1 item"),
        ("indexes", [], "at least 1 item"),
        ("library", 5, "path"),
        ("images_root", 5, "path"),
        ("images_root", [], "path"),
        ("images_root", ["a", "b"], "name"),
    ],
)
def test_a_wrong_value_is_named_with_its_setting_and_what_is_allowed(name: str, value: object, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} = ")
    assert allowed in message
    assert "\n" not in message
    if not isinstance(value, list | str):
        assert repr(value) in message


def test_all_wrong_values_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"workers = 'x': .*; top_k = 0: "):
        Settings.load(workers="x", top_k=0)


def test_a_wrong_value_in_a_file_or_a_variable_is_named_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, "top_k = -1")
    with pytest.raises(SettingsError, match="top_k = -1: input should be greater"):
        Settings.load()
    monkeypatch.setenv("IMGREC_TOP_K", "lots")
    with pytest.raises(SettingsError, match="top_k = 'lots': input should be a valid integer"):
        Settings.load()


def test_a_library_in_a_file_must_be_text(here: Path) -> None:
    write(here, "library = 5")
    with pytest.raises(SettingsError, match=r"library = 5: .*path"):
        Settings.load()


@pytest.mark.parametrize("name", ["library", "images_root"])
def test_the_home_of_nobody_is_told(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} = '~nobody-of-this-name/x': "):
        Settings.load(**{name: "~nobody-of-this-name/x"})


def test_unknown_settings_are_refused_with_those_that_there_are(
    here: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (here, library):
        write(folder, "topk = 5")
        with pytest.raises(SettingsError, match=r"^topk: no such setting in imgrec\.toml; there are .*top_k"):
            Settings.load(library=library)
        (folder / SETTINGS_FILE).unlink()
    monkeypatch.setenv("IMGREC_TOPK", "5")
    with pytest.raises(SettingsError, match=r"^IMGREC_TOPK: no such setting; there are .*IMGREC_TOP_K"):
        Settings.load()


@pytest.mark.parametrize("text", [b"top_k =", b"top_k = 5\n[", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(here: Path, library: Path, text: bytes) -> None:
    for folder in (here, library):
        (folder / SETTINGS_FILE).write_bytes(text)
        with pytest.raises(SettingsError, match=rf"{folder}/imgrec\.toml is no valid TOML") as caught:
            Settings.load(library=library)
        assert "\n" not in str(caught.value)
        (folder / SETTINGS_FILE).unlink()


def test_an_empty_variable_is_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGREC_LIBRARY", "")
    monkeypatch.setenv("IMGREC_WORKERS", "")
    loaded = Settings.load()
    assert (loaded.library, loaded.workers) == (Settings.model_fields["library"].default.expanduser(), None)


def test_a_working_directory_that_is_not_utf_8_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Path(os.fsdecode(os.fsencode(tmp_path / "here") + b"\xff"))
    here.mkdir()
    monkeypatch.chdir(here)
    with pytest.raises(SettingsError, match="the name of this folder is not UTF-8"):
        Settings.load(library="library")


# The environment


def test_nobody_is_called_unless_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "true")
    prepare_environment()
    assert os.environ["DO_NOT_TRACK"] == os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] == "true"


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


# Folders of photos by name


@pytest.mark.parametrize(
    "given",
    [
        ["nas=nas", "laptop=~/Pictures"],
        "nas=nas\n\n  laptop=~/Pictures\n",
        {"nas": "nas", "laptop": Path("~/Pictures")},
    ],
)
def test_folders_may_have_names(here: Path, given: object) -> None:
    assert Settings.load(images_root=given).images_root == {"nas": here / "nas", "laptop": Path.home() / "Pictures"}


def test_names_may_come_from_a_file_or_a_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(here, 'images_root = {nas = "/mnt/nas", laptop = "~/Pictures"}')
    assert Settings.load().images_root == {"nas": Path("/mnt/nas"), "laptop": Path.home() / "Pictures"}
    monkeypatch.setenv("IMGREC_IMAGES_ROOT", "nas=/volume1")
    assert Settings.load().images_root == {"nas": Path("/volume1")}
    monkeypatch.delenv("IMGREC_IMAGES_ROOT")
    # Names of several sources add up.
    assert Settings.load(images_root={"nas": None}).images_root == {"nas": None, "laptop": Path.home() / "Pictures"}


def test_a_folder_whose_own_name_has_an_equals_sign(here: Path) -> None:
    (here / "year=2020").mkdir()
    assert Settings.load(images_root="year=2020").images_root == here / "year=2020"
    assert Settings.load(images_root="./year=2020").images_root == here / "year=2020"
    assert Settings.load(images_root="my year=2020").images_root == here / "my year=2020"
    (here / "2020").mkdir()
    with pytest.raises(SettingsError, match=r"a folder \./year=2020 and a folder 2020: write \./year=2020, or "):
        Settings.load(images_root="year=2020")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"a/b": "x"}, "'a/b' is no name"),
        ({".": "x"}, r"'\.' is no name"),
        ({"nas": ""}, "nas= names no folder"),
        (["nas="], "nas= names no folder"),
        (["a=x", "a=y"], "one is given twice"),
        (["a=x", "y"], "give each folder a name"),
    ],
)
def test_names_that_are_none(here: Path, given: object, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.load(images_root=given)
