"""Libraries for searching: real ones from photos, and ones of vectors only."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar, cast
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import ingesting
from imgrec.search.indexes.allowed import Allowed
from imgrec.search.indexes.hits import NO_ID
from imgrec.search.indexes.layout import IndexFolder, Member
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.reader import IndexReader
from imgrec.search.indexes.rescoring import SPARE, ExactScores, rescore
from imgrec.search.indexes.updating import IndexReport, update_index
from imgrec.search.indexes.vectors import Ids
from imgrec.storage.library import DEFAULT_MODELS_ROOT, Library
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard
from imgrec.tasks.calls import PlainCalls, Promise
from imgrec.tasks.tracking import track
from tests.storage.pictures import InProcess
from tests.storage.rows import add_image, hash_of

P = ParamSpec("P")
R = TypeVar("R")
Vectors = NDArray[np.float32]

PARAMETERS = IndexParameters(
    hnsw_m=32, ef_construction=100, ef_search=64, index_batch_size=1_024, recall_sample=50, index_type="graph"
)
FINGERPRINT = "f" * 16


class AtOnce(PlainCalls):
    """Steps one after the other in this thread, without MLflow, whose database takes seconds to make."""

    def call(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return cast("R", None) if step is track else super().call(step, *args, **kwargs)

    def submit(self, step: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Promise[R]:
        return InProcess().submit(self.call, step, *args, **kwargs)


def ingest(library: Library, parameters: IndexParameters = PARAMETERS, models_root: Path = DEFAULT_MODELS_ROOT) -> None:
    """Bring a library up to date in this process, whatever share of its photos is gone."""
    chosen = Settings(library=library.root, models_root=models_root, device="cpu", **asdict(parameters))
    with patch("imgrec.tasks.driver.WorkerPool", lambda *_, **__: InProcess()):
        ingesting.ingest(chosen, AtOnce(retries=0), accept_missing=True)


def unit_rows(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def random_rows(count: int, dim: int, seed: int = 0) -> Vectors:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dim)))


@dataclass(frozen=True)
class VectorLibrary:
    """A registry whose images are nothing but vectors of dimension `dim`, and one index of them."""

    root: Path
    registry: Registry
    dim: int

    @property
    def folder(self) -> IndexFolder:
        return IndexFolder(self.root / "indexes", "color")

    @property
    def shards_dir(self) -> Path:
        return self.root / "shards"

    @property
    def member(self) -> Member:
        return Member("color", FINGERPRINT, self.dim)

    def add(self, vectors: Vectors, in_shard: bool = False) -> list[int]:
        """Add an image a row, its vector in a BLOB and if asked for in a shard; return their ids."""
        numbers = range(self.count(), self.count() + len(vectors))
        with self.registry.transaction():
            ids = [add_image(self.registry, number) for number in numbers]
            self.registry.connection.executemany(
                "INSERT INTO color_vectors VALUES (?, ?, ?)",
                [(i, FINGERPRINT, row.tobytes()) for i, row in zip(ids, vectors, strict=True)],
            )
        if in_shard:
            shard = Shard("color", FINGERPRINT, tuple(map(hash_of, numbers)), vectors)
            name = digest_of(FINGERPRINT, shard.content_hashes)
            write_shard(shard_path(self.shards_dir, "color", FINGERPRINT, name), shard)
        return ids

    def count(self) -> int:
        return int(self.registry.connection.execute("SELECT count(*) FROM images").fetchone()[0])

    def mark(self, ids: Iterable[int], missing: bool) -> None:
        self.registry.connection.executemany(
            "UPDATE images SET missing_since = ? WHERE id = ?", [("now" if missing else None, i) for i in ids]
        )

    def update(self, parameters: IndexParameters = PARAMETERS) -> IndexReport:
        report = self.update_or_nothing(parameters)
        assert report is not None
        return report

    def update_or_nothing(self, parameters: IndexParameters = PARAMETERS) -> IndexReport | None:
        return update_index(self.registry, self.shards_dir, self.folder, (self.member,), {}, parameters)

    def live(self) -> dict[int, Vectors]:
        ids = self.registry.live_ids("color", FINGERPRINT).tolist()
        return self.registry.vectors("color", FINGERPRINT, ids)


@contextmanager
def open_vector_library(root: Path, dim: int) -> Iterator[VectorLibrary]:
    with Registry.open_for_writing(root / "registry.sqlite") as registry:
        registry.register_fingerprint(FINGERPRINT, "color", dim, {})
        yield VectorLibrary(root, registry, dim)


def exact_scores(live: dict[int, Vectors], queries: Vectors, k: int) -> NDArray[np.float64]:
    """The k best cosines of each query, by brute force in double precision; short rows end in -inf."""
    scores = np.full((len(queries), k), -np.inf)
    if live:
        rows = np.stack(list(live.values())).astype(np.float64)
        found = -np.sort(-(queries.astype(np.float64) @ rows.T), axis=1)[:, :k]
        scores[:, : found.shape[1]] = found
    return scores


def search_exactly(
    library: VectorLibrary, queries: Vectors, k: int, allowed: Allowed | None = None
) -> tuple[Vectors, Ids]:
    """What a Searcher does with the published index: near hits, ranked by their exact scores."""
    _, ids = IndexReader(library.folder).search(queries, k + SPARE, 64, allowed)
    return rescore(ExactScores(library.registry, (library.member,)), queries, ids, k)


def assert_exact(library: VectorLibrary, k: int = 7) -> None:
    """Searching the published index is exact search over the live vectors."""
    queries = random_rows(10, library.dim, seed=99)
    scores, ids = search_exactly(library, queries, k)
    live = library.live()
    assert np.allclose(scores, exact_scores(live, queries, k), rtol=0, atol=1e-6)
    for query, some_scores, some_ids in zip(queries, scores.tolist(), ids.tolist(), strict=True):
        found = [i for i in some_ids if i != NO_ID]
        assert len(set(found)) == len(found) == min(k, len(live))
        for image_id, score in zip(found, some_scores, strict=False):
            assert abs(score - float(query @ live[image_id])) < 1e-6
