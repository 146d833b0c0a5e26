"""`import imgrec`: what a notebook or another program uses."""

import io
import re
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import imgrec
from benchmarks.pictures import real_pictures
from imgrec.embedders.errors import UnknownEmbedderError
from imgrec.search.errors import QueryError
from imgrec.search.pictures import Picture

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `Pictures`, a picture `holiday.jpg`, and a library of the first made by `imgrec.ingest`."""
    folder = tmp_path_factory.mktemp("album")
    (folder / "Pictures").mkdir()
    for path in real_pictures()[:6]:
        (folder / "Pictures" / path.name).write_bytes(path.read_bytes())
    with Image.open(real_pictures()[2]) as picture:
        picture.convert("RGB").save(folder / "holiday.jpg", quality=95)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        report = imgrec.ingest(folder / "Pictures", folder / "library", ["color"], workers=2)
    assert report.images["ok"] == 6
    return folder


def pixels_of(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_every_kind_of_query_finds_the_same_photo(album: Path) -> None:
    path = album / "holiday.jpg"
    with imgrec.open(album / "library") as library, path.open("rb") as file:
        queries: list[Picture] = [str(path), path, path.read_bytes(), file, pixels_of(path)]
        answers = library.search(queries, top_k=3)
        (alone,) = library.search(path.read_bytes(), top_k=3)
    first = answers[0].hits
    for answer in (*answers, alone):
        assert [hit.id for hit in answer.hits] == [hit.id for hit in first]
        assert [hit.score for hit in answer.hits] == pytest.approx([hit.score for hit in first], abs=1e-6)
    best = answers[0].hits[0]
    assert best.path == real_pictures()[2].name
    assert best.score > 0.95
    height, width = pixels_of(path).shape[:2]
    names = [str(path), str(path), f"{path.stat().st_size:,} bytes", str(path), f"pixels {height} × {width} × 3"]
    assert [answer.query for answer in answers] == names
    assert [answer.file for answer in answers] == [str(path), str(path), None, None, None]
    assert best.file == str(album / "Pictures" / best.path)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (np.zeros((4, 4), np.uint8), "give RGB pixels"),
        (np.zeros((4, 4, 3)), "of float64: give RGB pixels"),
        (np.zeros((0, 4, 3), np.uint8), "give RGB pixels"),
        (io.StringIO("text"), "open it in binary mode"),
        (b"no picture", "10 bytes: the content is none of the image formats"),
        (b"", "the file is empty"),
        ("nothing.jpg", "nothing.jpg cannot be read"),
    ],
)
def test_what_is_no_picture_is_told(query: Picture, said: str, album: Path) -> None:
    with imgrec.open(album / "library") as library, pytest.raises(QueryError, match=re.escape(said)):
        library.search(query)


def test_photos_and_vectors_come_as_tables(album: Path) -> None:
    with imgrec.open(album / "library") as library:
        images, vectors = library.images(), library.vectors("color")
        (answer,) = library.search("id:2", top_k=6)
    assert images["path"].to_pylist() == sorted(picture.name for picture in real_pictures()[:6])
    assert vectors["image_id"].to_pylist() == images["id"].to_pylist()
    matrix = vectors["vector"].combine_chunks().flatten().to_numpy().reshape(len(vectors), -1)
    assert matrix.shape == (6, 512)
    ids = vectors["image_id"].to_pylist()
    scores = dict(zip(ids, (matrix @ matrix[ids.index(2)]).tolist(), strict=True))
    assert {hit.id: hit.score for hit in answer.hits} == {key: pytest.approx(score) for key, score in scores.items()}


def test_a_modality_that_is_not_there_is_told(album: Path) -> None:
    with imgrec.open(album / "library") as library, pytest.raises(UnknownEmbedderError, match="there are color"):
        library.vectors("dreamsim")


def test_threads_share_an_open_library(album: Path) -> None:
    found: list[int] = []
    with imgrec.open(album / "library") as library:
        threads = [
            threading.Thread(target=lambda: found.append(library.search("id:1", index="color")[0].hits[0].id))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [1] * 8


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ("numpy", "pyarrow", "faiss", "prefect", "mlflow", "pydantic")
    code = f"import sys, imgrec; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_lines_of_the_readme_run(album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "imgrec.open(" in code]
    script = tmp_path / "script.py"
    script.write_text(
        block.replace("~/Pictures", str(album / "Pictures")).replace("~/photos.imgrec", str(album / "library"))
    )
    monkeypatch.chdir(album)
    monkeypatch.setattr(sys, "argv", [str(script)])
    runpy.run_path(str(script))
