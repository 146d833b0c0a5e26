"""A compressed modality from end to end: learnt, ingested from shards, searched, kept, dropped."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.embedders.work import deriving, worker
from imgrec.flows.train_compression import train_compression
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.searcher import Searcher
from imgrec.search.upkeep.backup import back_up
from imgrec.search.upkeep.garbage import collect_garbage
from imgrec.storage.library import open_library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import list_shards, read_shard
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
    write = worker.Chunk.write
    monkeypatch.setattr(
        worker.Chunk, "write", lambda self, folder: (chunks.append(list(self.fingerprints)), write(self, folder))[1]
    )
    (photos / "later.png").write_bytes(next(iter(sorted(photos.glob("*.png")))).read_bytes() + b"\0")
    derived: list[list[bytes]] = []
    derive = deriving.derive_shard
    monkeypatch.setattr(
        deriving, "derive_shard", lambda e, s, wanted: (derived.append(list(wanted)), derive(e, s, wanted))[1]
    )
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
