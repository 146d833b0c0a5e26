"""In which precision and by what models compute are settings of a library's vectors; the device is the machine's."""

from pathlib import Path

import pytest

from imgrec.conf.settings import Settings
from imgrec.embedders.catalogue import create_embedders
from imgrec.flows.pipeline.libraries import library_for
from imgrec.storage.errors import VectorSettingsError
from imgrec.storage.library import Library
from tests.flows.conftest import Imgrec


@pytest.fixture
def make(tmp_path: Path) -> Settings:
    (tmp_path / "photos").mkdir()
    return Settings.load(images_root=tmp_path / "photos", library=tmp_path / "library")


def fingerprints(library: Library) -> list[str]:
    embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
    return [embedder.spec.fingerprint for embedder in embedders.values()]


@pytest.mark.parametrize(
    ("setting", "value", "default"), [("precision", "bf16", "float32"), ("cpu_runtime", "torch", "onnxruntime")]
)
def test_a_library_keeps_its_own(make: Settings, setting: str, value: str, default: str) -> None:
    library = library_for(make.model_copy(update={setting: value}))
    assert library_for(make).vector_settings[setting] == value
    other = Settings.load(library=library.root, **{setting: default})
    flag = f"--{setting.replace('_', '-')} {default}"
    with pytest.raises(VectorSettingsError, match=rf"{setting} = {default}, but {value} there.*reembed .* {flag}"):
        library_for(other)
    changed = library_for(other, reembed=True)
    differ = [old != new for old, new in zip(fingerprints(library), fingerprints(changed), strict=True)]
    assert differ == [name == "efficientnet" for name in library.modalities]


def test_a_library_keeps_what_it_does_with_colour_profiles(make: Settings) -> None:
    library = library_for(make)
    assert library.vector_settings["icc_profiles"] == "srgb"
    older = library_for(make.model_copy(update={"library": library.root.with_name("older")}))
    settings = {name: value for name, value in older.vector_settings.items() if name != "icc_profiles"}
    older = older.with_vector_settings(settings)
    assert library_for(Settings.load(library=older.root)).vector_settings == settings
    assert all(old != new for old, new in zip(fingerprints(older), fingerprints(library), strict=True))
    asked = Settings.load(library=older.root, icc_profiles="srgb")
    with pytest.raises(VectorSettingsError, match=r"icc_profiles = srgb, but ignored there.*reembed .* --icc-profiles"):
        library_for(asked)
    assert fingerprints(library_for(asked, reembed=True)) == fingerprints(library)


def test_a_library_that_never_had_the_choice_has_the_defaults(make: Settings) -> None:
    library = library_for(make)
    choices = ("precision", "cpu_runtime", "icc_profiles")
    older = {name: value for name, value in library.vector_settings.items() if name not in choices}
    before = fingerprints(library.with_vector_settings({**older, "icc_profiles": "ignored"}))
    library = library.with_vector_settings(older)
    assert fingerprints(library) == before
    assert library_for(Settings.load(library=library.root, precision="float32")).vector_settings == older
    with pytest.raises(VectorSettingsError, match="precision = fp16, but float32 there"):
        library_for(Settings.load(library=library.root, precision="fp16"))
    with pytest.raises(VectorSettingsError, match="cpu_runtime = torch, but onnxruntime there"):
        library_for(Settings.load(library=library.root, cpu_runtime="torch"))


def test_a_device_that_is_not_there_is_one_line(imgrec: Imgrec, photos: Path, library: Path) -> None:
    def refuses(*command: object) -> bool:
        ran = imgrec(*command, "--library", library, "--device", "cuda:99")
        return ran.code == 1 and ran.err.splitlines()[-1].startswith("imgrec: error: device = cuda:99: there is ")

    assert refuses("ingest", photos, "--modality", "efficientnet")
    assert refuses("ingest", photos, "--modality", "efficientnet", "--dry-run")
    assert not library.exists()
    assert imgrec("ingest", photos, "--library", library, "--device", "cuda:99").code == 0  # colours need none
    assert refuses("ingest", "--modality", "efficientnet")
    assert imgrec("ingest", "--library", library, "--modality", "efficientnet", "--device", "cpu").code == 0
    (photos / "cell.png").rename(photos / "moved.png")
    assert refuses("ingest")
    assert refuses("embed")
    (report,) = imgrec("scan", "--library", library, "--json").lines
    assert report["moved"] == 1  # nothing was scanned before
    (photos / "moved.png").rename(photos / "cell.png")
    searched = imgrec("search", photos / "cell.png", "--library", library, "--device", "cuda:99")
    assert (searched.code, searched.err.count("\n")) == (1, 1)
    assert searched.err.startswith("imgrec: error: device = cuda:99: there is ")
