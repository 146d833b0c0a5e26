"""`imgrec evaluate`, as a user types it."""

import os
import re
from pathlib import Path

import pytest

from benchmarks.pictures import real_pictures
from imgrec.search.evaluation import searching
from imgrec.search.evaluation.distortions import DISTORTIONS
from imgrec.storage.library import open_library
from tests.flows.conftest import Imgrec

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "THROUGHPUT_S", 0.01)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of colours and patterns of twelve pictures in two folders, and one outside; nobody may change it."""
    from tests import plain

    home = tmp_path_factory.mktemp("evaluated")
    for number, path in enumerate(real_pictures()[:13]):
        target = home / "photos" / ("", "people", "things")[(number > 0) + number % 2 * (number > 0)] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    plain.ingest(home / "photos", home / "library", ["color", "sift"])
    return home / "library"


def test_everything_at_once_and_again_side_by_side(imgrec: Imgrec, library: Path) -> None:
    ran = imgrec(
        "evaluate", "--library", library, "--labels", "folders", "--copies", 4, "--weights", "color=3,sift=1",
        "--suggest-weights", "--expand", "--k", 3, "--json",
    )  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    (found,) = ran.lines
    assert set(found) == {"library", "plan", "indexes", "classes", "copies", "suggestion", "seconds", "mlflow"}
    assert [one["index"] for one in found["indexes"]] == ["color", "sift", "combo_color_sift"]
    assert [(one["recall"], one["k"], one["queries"]) for one in found["indexes"]] == [(1.0, 3, 13)] * 3
    assert set(found["indexes"][0]["latency_ms"]["one_thread"]) == {"p50", "p95", "p99"}

    classes = found["classes"]
    assert (classes["photos"], classes["queries"], classes["classes"]) == (12, 12, 2)
    names = [(one["name"], one["expanded"]) for one in classes["weightings"]]
    assert names == [
        (name, expanded)
        for name in ("color", "sift", "combo_color_sift", "color=3,sift=1")
        for expanded in (False, True)
    ]
    assert set(classes["weightings"][0]["by_class"]) == {"people", "things"}
    assert all(0 < one["map_at_50"] <= 1 for one in classes["weightings"])

    copies = found["copies"]
    assert (copies["photos"], copies["among"]) == (4, 13)
    assert set(copies["weightings"][0]["by_distortion"]) == set(DISTORTIONS)
    assert found["suggestion"]["present"]["name"] == "combo_color_sift"
    assert found["suggestion"]["tried"] == 11

    from mlflow import MlflowClient

    client = MlflowClient(found["mlflow"]["tracking_uri"])
    run = client.get_run(found["mlflow"]["run_id"])
    assert run.data.metrics["search/color/recall"] == 1.0
    assert run.data.metrics["copies/color 3 sift 1/r_at_1"] == pytest.approx(
        copies["weightings"][3]["r_at_1"], abs=1e-4
    )
    assert run.data.params["labels"] == "folders"
    drawn = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert drawn == {"copies-by-distortion.png", "recall-against-latency.png"}
    for name in drawn:
        assert Path(client.download_artifacts(run.info.run_id, name)).read_bytes().startswith(PNG)

    imgrec("evaluate", "--library", library, "--index", "color", "--sample", 5)
    newest, first = imgrec("evaluate", "--library", library, "--runs", "--json").lines
    assert (newest["parameters"]["sample"], first["parameters"]["sample"]) == ("5", "1000")
    assert first["metrics"] == run.data.metrics
    table = imgrec("evaluate", "--library", library, "--runs").out
    assert " recall color\n" in table
    assert re.search(r" – +[01]\.\d{3}  R@1 sift\n", table)  # the newest run has none
    assert re.search(r" – +folders  labels\n", table)


def test_tables_fit_eighty_columns(imgrec: Imgrec, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    ran = imgrec("evaluate", "--library", library, "--labels", "folders", "--copies", 4, "--suggest-weights")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)
    for told in ("recall@10", "mAP@50", "all of them", "combo_color_sift: color=0.4,sift=0.6"):
        assert told in ran.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--weights", "color=1"], 2, "--weights: say what to judge by"),
        (["--suggest-weights"], 2, "--suggest-weights: say what to judge by"),
        (["--expand"], 2, "--expand: say which photos are of one class"),
        (["--sample", 0], 2, "--sample 0 leaves nothing to evaluate"),
        (["--index", "openclip"], 1, "no index 'openclip' in .*: there are color, combo_color_sift, sift"),
        (["--labels", "nowhere.csv"], 1, "labels nowhere.csv cannot be read"),
        (["--labels", "folders", "--weights", "color=1,openclip=1"], 1, "no modality 'openclip' in these indexes"),
        (["--labels", "folders", "--index", "sift", "--suggest-weights"], 1, "combines two modalities or more"),
        (["--copies", 2], 1, "2 photos are too few for copies"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    imgrec: Imgrec, library: Path, arguments: list[object], code: int, says: str
) -> None:
    ran = imgrec("evaluate", "--library", library, *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert re.search(says, ran.err), ran.err


def test_labels_of_unknown_paths_are_counted_and_said(imgrec: Imgrec, library: Path, tmp_path: Path) -> None:
    photos = sorted(path for path in Path(open_library(library).images_root).rglob("*") if path.is_file())
    lines = [f"{path},{'first' if place < 6 else 'second'}" for place, path in enumerate(photos)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines, "nowhere.jpg,first", ""]))
    ran = imgrec("evaluate", "--library", library, "--sample", 0, "--labels", tmp_path / "labels.csv")
    assert ran.code == 0
    assert "1 label is of no photo of the library" in ran.out
    assert "12 queries" not in ran.out
    assert "13 queries among 13 photos" in ran.out


def test_no_evaluation_yet(imgrec: Imgrec, library: Path, own_mlflow: None) -> None:
    ran = imgrec("evaluate", "--library", library, "--runs")
    assert (ran.code, ran.err) == (0, "")
    assert "no evaluation has been logged" in ran.out


def test_a_run_that_mlflow_does_not_take_is_kept_with_its_plots_and_shown_all_the_same(
    imgrec: Imgrec, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    works = os.environ["MLFLOW_TRACKING_URI"]
    arguments = ("evaluate", "--library", library, "--index", "color", "--sample", 4)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    ran = imgrec(*arguments)
    assert ran.code == 0
    assert "recall@10" not in ran.err
    assert "did not take the run, which is kept for the next one" in ran.err
    postponed = open_library(library).postponed_runs_dir
    assert len(list(postponed.iterdir())) == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", works)
    imgrec(*arguments)
    newest, kept, *_ = imgrec("evaluate", "--library", library, "--runs", "--json").lines
    assert list(postponed.iterdir()) == []
    for run in (newest, kept):
        (file,) = MlflowClient(works).list_artifacts(run["run_id"])
        stored = MlflowClient(works).get_run(run["run_id"]).info.artifact_uri
        assert Path(works.removeprefix("sqlite:///")).parent.as_uri() in stored  # and not in the working directory
        assert Path(MlflowClient(works).download_artifacts(run["run_id"], file.path)).read_bytes().startswith(PNG)

    postponed.rmdir()
    postponed.write_text("in the way")  # as nothing can be written into a library on a read-only disk
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://nowhere")
    ran = imgrec(*arguments)
    postponed.unlink()
    assert ran.code == 0
    assert "the run is not kept for MLflow" in ran.err
    assert "q/s all" in ran.out
