"""A compressed modality from end to end: learnt, ingested from shards, searched, kept, dropped."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.derived import DerivedEmbedder
from imgrec.embedders.work import deriving
from imgrec.embedders.work.chunk import Chunk
from imgrec.flows.train_compression import train_compression
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.searcher import Searcher
from imgrec.search.upkeep.backup import back_up
from imgrec.search.upkeep.garbage import collect_garbage
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, list_shards, read_shard
from tests.flows.conftest import Imgrec
from tests.plain import embed, ingest, scan

NAME = "color.pca2"


@pytest.fixture
def compressed(photos: Path, library: Path) -> Path:
    ingest(photos, library, ["color"])
    train_compression.fn(NAME, library)
    ingest(photos, library)
    return library


def rows_of(library: Path, modality: str) -> dict[bytes, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    shards = [read_shard(path) for path in list_shards(library / "shards") if path.parts[-3] == modality]
    return {content: row for one in shards for content, row in zip(one.content_hashes, one.vectors, strict=True)}


def test_a_photo_that_comes_later_gets_its_vector_by_itself_and_is_decoded_once(
    compressed: Path, photos: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_of(compressed, NAME)
    assert before.keys() == rows_of(compressed, "color").keys()
    chunks: list[list[str]] = []
    write = Chunk.write

    def note_chunk(self: Chunk, folder: Path) -> Path:
        chunks.append(list(self.fingerprints))
        return write(self, folder)

    monkeypatch.setattr(Chunk, "write", note_chunk)
    (photos / "later.png").write_bytes(next(iter(sorted(photos.glob("*.png")))).read_bytes() + b"\0")
    derived: list[list[bytes]] = []
    derive = deriving.derive_shard

    def note_derived(embedder: DerivedEmbedder, shard: Shard, wanted: Sequence[bytes]) -> Shard:
        derived.append(list(wanted))
        return derive(embedder, shard, wanted)

    monkeypatch.setattr(deriving, "derive_shard", note_derived)
    ingest(photos, compressed)
    after = rows_of(compressed, NAME)
    assert chunks == [["color"]]
    assert [len(wanted) for wanted in derived] == [1]
    assert after.keys() == rows_of(compressed, "color").keys() > before.keys()
    with Registry.open_for_reading(compressed / "registry.sqlite") as registry:
        assert registry.connection.execute("SELECT count(*) FROM color_pca2_vectors").fetchone()[0] >= len(after)


def test_a_library_is_searched_by_it_and_backed_up_and_cleaned(
    compressed: Path, photos: Path, tmp_path: Path, imgrec: Imgrec
) -> None:
    picture = photos / "cell.png"
    with Searcher(compressed, NAME) as searcher:
        hit = searcher.search([picture], top_k=1)[0].hits[0]
    assert (Path(hit.path).name, round(hit.score, 4)) == ("cell.png", 1)
    assert imgrec("doctor", "--library", compressed).code == 0
    back_up(compressed, tmp_path / "copy", IndexParameters())
    with Searcher(tmp_path / "copy", NAME) as searcher:
        assert searcher.search([picture], top_k=1)[0].hits[0].id == hit.id
    encoders = list((compressed / "models").iterdir())
    assert len(encoders) == 1
    assert not [item for item in collect_garbage(compressed, True, 0) if item.kind in ("model", "vectors", "shards")]
    assert imgrec("compress", "drop", NAME, "--library", compressed).code == 0
    ingest(photos, compressed)  # no index names the encoder any more
    gone = {item.kind for item in collect_garbage(compressed, True, 0)}
    assert {"model", "vectors", "shards"} <= gone
    assert list((compressed / "models").iterdir()) == []
    assert open_library(compressed).modalities == ("color",)


def test_embedding_it_alone_takes_what_its_source_has(photos: Path, library: Path) -> None:
    ingest(photos, library, ["color"])
    train_compression.fn(NAME, library)
    scan(photos, library)
    embed(library, [NAME])
    assert rows_of(library, NAME).keys() == rows_of(library, "color").keys()


def test_a_damaged_encoder_is_the_doctors(compressed: Path, imgrec: Imgrec) -> None:
    path = next((compressed / "models").iterdir())
    path.write_bytes(path.read_bytes()[:-3])
    ran = imgrec("doctor", "--library", compressed)
    assert ran.code != 0
    assert path.name in ran.out + ran.err


def test_between_learning_and_ingest_nothing_breaks(photos: Path, library: Path, imgrec: Imgrec) -> None:
    ingest(photos, library, ["color"])
    train_compression.fn(NAME, library)
    with Searcher(library, "color") as searcher:
        assert searcher.search([photos / "cell.png"], top_k=1)[0].hits[0].score > 0.999
    assert not [item for item in collect_garbage(library, False, 0) if item.kind == "model"]
    assert "models" not in imgrec("doctor", "--library", library).out


@pytest.mark.slow  # sixty pictures and six runs of MLflow
def test_a_study_goes_on_where_it_was_and_training_takes_its_best(
    tmp_path: Path, library: Path, own_mlflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from imgrec.flows import tune_compression as tuning
    from imgrec.tasks.tracking import tracking_uri

    monkeypatch.setattr(tuning, "SPACE", {"depth": (0, 1), "width": (8, 16)})
    monkeypatch.setattr(tuning, "FIXED", {"epochs": 2, "batch_size": 32, "learning_rate": 1e-3})
    monkeypatch.setattr(tuning, "HELD_OUT_AT_LEAST", 5)
    random = np.random.default_rng(0)
    (tmp_path / "coloured").mkdir()
    for number in range(60):
        colours = Image.fromarray(random.integers(0, 256, (3, 3, 3), np.uint8))
        colours.resize((48, 48), Image.Resampling.NEAREST).save(tmp_path / "coloured" / f"{number}.png")
    ingest(tmp_path / "coloured", library, ["color"])
    name = "color.ae2"
    first = tuning.tune_compression.fn(name, library, trials=2, sampler="grid")
    assert first.trials == 2
    through = tuning.tune_compression.fn(name, library, trials=99, sampler="grid")
    assert through.trials == 4
    client = MlflowClient(tracking_uri(open_library(library)))
    found = client.get_experiment_by_name(tuning.EXPERIMENT)
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 2
    assert {run.data.tags["mlflow.parentRunId"] for run in runs if run not in parents} == {
        run.info.run_id for run in parents
    }
    assert len(runs) == 6
    trained = train_compression.fn(name, library)
    from imgrec.embedders.compression.encoder import read_encoder

    learnt = read_encoder(library / "models", trained.encoder).facts["settings"]
    assert {key: learnt[key] for key in through.best} == through.best


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of the colours of enough pictures to learn from and to judge by."""
    home = tmp_path_factory.mktemp("many")
    (home / "photos").mkdir()
    for number in range(400):
        blocks = np.random.default_rng(number).integers(0, 4, (4, 4, 3), np.uint8) * 64 + 32
        Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), np.uint8))).save(home / "photos" / f"{number}.png")
    ingest(home / "photos", home / "library", ["color"])
    return home / "library"


def test_methods_are_compared(many: Path, tmp_path: Path, imgrec: Imgrec) -> None:
    plot = tmp_path / "plot.png"
    train_compression.fn("color.pca8", many)
    options = ("--dims", "2,8", "--plot", plot, "--library", many)
    (compared,) = imgrec("compress", "evaluate", "color", *options, "--json").lines
    found = {(one["method"], one["bytes_per_vector"]): one["recall"] for one in compared["methods"]}
    assert {"pca", "rp", "faiss pq", "faiss opq", "faiss sq8", "faiss rabitq", "color.pca8"} <= {
        name for name, _ in found
    }
    assert found["pca", 8] < found["pca", 32] == pytest.approx(found["color.pca8", 32], abs=0.03)
    assert found["rp", 32] < found["pca", 32]
    assert found["faiss sq8", 512] > 0.9
    assert compared["run"]
    with Image.open(plot) as drawn:
        assert drawn.width > 500
    told = imgrec("compress", "evaluate", "color", *options).out
    assert max(len(line) for line in told.splitlines() if not line.startswith("drawn")) <= 80
    assert "faiss opq" in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sift",), "the library has no sift"),
        (("color", "--dims", "8,x"), "8,x: write numbers as 32,64,128"),
    ],
)
def test_what_cannot_be_compared_is_told(many: Path, imgrec: Imgrec, arguments: tuple[str, ...], said: str) -> None:
    refused = imgrec("compress", "evaluate", *arguments, "--library", many)
    assert refused.code in (1, 2)
    assert said in refused.err


def test_few_vectors_are_not_compared(compressed: Path, imgrec: Imgrec) -> None:
    refused = imgrec("compress", "evaluate", "color", "--library", compressed)
    assert "are too few to learn from and to judge by: some 512 are needed" in refused.err
