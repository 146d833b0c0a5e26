"""The store of models: whole or not at all, verified, one writer at a time."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgrec.embedders.errors import ModelFileError
from imgrec.embedders.models.store import (
    FACTS_FILE,
    StoredModel,
    describe_files,
    find_model,
    list_models,
    model_names,
    stage,
)

NAME = "ViT-L-14-quickgelu.openai"


def fill(folder: Path, weights: bytes = b"weights", **facts: object) -> StoredModel:
    (folder / "sub").mkdir(exist_ok=True)
    (folder / "sub" / "weights.bin").write_bytes(weights)
    (folder / "config.json").write_text("{}")
    model = StoredModel(
        NAME, "openclip", 768, facts or {"quick_gelu": True}, "MIT", "here", describe_files(folder), folder
    )
    model.save()
    return model


def store(root: Path, weights: bytes = b"weights", **facts: object) -> StoredModel:
    with stage(root, NAME) as folder:
        fill(folder, weights, **facts)
    return find_model(root, NAME)


def test_a_model_is_found_as_it_was_stored(tmp_path: Path) -> None:
    model = store(tmp_path)
    assert [(file.path, file.bytes) for file in model.files] == [("config.json", 2), ("sub/weights.bin", 7)]
    assert model.card == {"name": NAME, "digest": model.digest, "dim": 768, "quick_gelu": True}
    assert json.loads(json.dumps(model.card)) == model.card
    assert (model.size, model.read("sub/weights.bin")) == (9, b"weights")
    model.check()
    assert list_models(tmp_path) == [model]
    assert find_model(tmp_path, NAME, model.digest) == model
    assert sorted(os.listdir(tmp_path)) == [f".{NAME}.lock", NAME]


def test_the_digest_is_of_files_and_facts_and_nothing_else(tmp_path: Path) -> None:
    model = store(tmp_path / "one")
    assert replace(model, licence="other", origin="there", folder=tmp_path).digest == model.digest
    assert store(tmp_path / "two", b"Weights").digest != model.digest
    assert store(tmp_path / "three", quick_gelu=False).digest != model.digest


def test_a_model_that_is_not_there_names_the_command(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelFileError, match=rf"^model {NAME} is not in .*: run `imgrec models fetch {NAME}`"):
            find_model(root, NAME)
        assert list_models(root) == []


@pytest.mark.parametrize("name", ["birds", "birds.v2", "dreamsim.clip_vitb16", "ViT-L-14.openai"])
def test_a_model_that_nobody_publishes_is_not_said_to_be_fetched(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError) as told:
        find_model(tmp_path, name)
    assert str(told.value) == f"model {name} is not in {tmp_path}: run `imgrec models add {name} PATH` with a copy"


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "x" * 201])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match="is no name of a model"):
        find_model(tmp_path, name)
    with pytest.raises(ModelFileError, match="is no name of a model"), stage(tmp_path, name):
        pass


def test_another_model_of_the_same_name_is_not_the_one_that_made_the_vectors(tmp_path: Path) -> None:
    digest = store(tmp_path).digest
    store(tmp_path, b"others")
    with pytest.raises(ModelFileError, match=f"is another {NAME} .* than the vectors were made with .{digest}"):
        find_model(tmp_path, NAME, digest)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda folder: (folder / "sub/weights.bin").write_bytes(b"weigh"),
    "one bit": lambda folder: (folder / "sub/weights.bin").write_bytes(b"weightr"),
    "gone": lambda folder: (folder / "sub/weights.bin").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_told_and_never_read(tmp_path: Path, damage: str) -> None:
    model = store(tmp_path)
    DAMAGES[damage](model.folder)
    for use in (model.check, lambda: model.read("sub/weights.bin")):
        with pytest.raises(ModelFileError, match=rf"weights\.bin .* `imgrec models fetch {NAME}`"):
            use()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"files": 1}', b'{"files": [{}]}', b"\xff"])
def test_a_damaged_description_is_told(tmp_path: Path, content: bytes) -> None:
    (store(tmp_path).folder / FACTS_FILE).write_bytes(content)
    with pytest.raises(ModelFileError, match=r"model\.json is damaged .* `imgrec models fetch"):
        find_model(tmp_path, NAME)
    assert model_names(tmp_path) == [NAME]


def test_a_description_of_a_newer_format_is_told(tmp_path: Path) -> None:
    path = store(tmp_path).folder / FACTS_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 2}))
    with pytest.raises(ModelFileError, match="has format 2: upgrade"):
        find_model(tmp_path, NAME)


def test_what_fails_stores_nothing_and_leaves_the_old_one(tmp_path: Path) -> None:
    model = store(tmp_path)
    with pytest.raises(RuntimeError), stage(tmp_path, NAME) as folder:
        fill(folder, b"others")
        raise RuntimeError
    with stage(tmp_path, NAME) as folder:
        (folder / "weights.bin").write_bytes(b"not saved")
    assert list_models(tmp_path) == [model]
    model.check()
    store(tmp_path, b"others")
    assert find_model(tmp_path, NAME).read("sub/weights.bin") == b"others"
    assert sorted(os.listdir(tmp_path)) == [f".{NAME}.lock", NAME]


def test_a_second_process_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = []

    def second() -> None:
        with stage(tmp_path, NAME) as folder:
            order.append("second")
            fill(folder, b"second")

    with stage(tmp_path, NAME) as folder:
        thread = threading.Thread(target=second)
        thread.start()
        while not caplog.messages:
            time.sleep(0.01)
        order.append("first")
        fill(folder)
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == [f"another process stores {NAME}: waiting for it"]
    assert find_model(tmp_path, NAME).read("sub/weights.bin") == b"second"


STAGE_AND_HANG = """
import sys, time
from pathlib import Path
from imgrec.embedders.models.store import stage
with stage(Path(sys.argv[1]), sys.argv[2]) as folder:
    (folder / "half").write_bytes(b"ha")
    print("staged", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE_AND_HANG, str(tmp_path), NAME], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "staged\n"
        process.send_signal(signal.SIGKILL)
    assert list_models(tmp_path) == []
    with stage(tmp_path, NAME) as folder:
        assert os.listdir(folder) == []
        fill(folder)
    find_model(tmp_path, NAME).check()


def test_killed_between_two_renames_the_old_one_is_put_back(tmp_path: Path) -> None:
    model = store(tmp_path)
    model.folder.rename(tmp_path / f".{NAME}.replaced")  # what _publish does first
    with pytest.raises(RuntimeError), stage(tmp_path, NAME):
        raise RuntimeError
    find_model(tmp_path, NAME, model.digest).check()
    assert not (tmp_path / f".{NAME}.replaced").exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "models", Path("/proc/models")):
        with pytest.raises(ModelFileError, match=r"cannot be written \(.*\): name another folder"), stage(root, NAME):
            pass
