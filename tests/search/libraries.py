"""Libraries for searching: real ones from photos, and ones of vectors only."""

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgrec.embedders.catalogue import create_embedders
from imgrec.embedders.work.chunk import Chunk
from imgrec.embedders.work.worker import embed_chunk
from imgrec.search.fusion import default_indexes, index_members
from imgrec.search.indexes.layout import IndexFolder, Member
from imgrec.search.indexes.publishing import reserve_indexed_ids
from imgrec.search.indexes.updating import IndexParameters, IndexReport, settle_indexes, update_index
from imgrec.storage.library import DEFAULT_MODELS_ROOT, Library
from imgrec.storage.machine.atomic import remove_stale_temporaries
from imgrec.storage.mirror import adopt_shards, are_settled, merge_small_shards, mirror_shards
from imgrec.storage.registry.pending import list_pending, read_pending
from imgrec.storage.registry.registry import Registry
from imgrec.storage.scan import scan_photos
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard
from tests.storage.pictures import InProcess
from tests.storage.rows import add_image, hash_of

Vectors = NDArray[np.float32]

PARAMETERS = IndexParameters(hnsw_m=32, ef_construction=100, ef_search=64, index_batch_size=1_024, recall_sample=50)
FINGERPRINT = "f" * 16


def ingest(library: Library, parameters: IndexParameters = PARAMETERS, models_root: Path = DEFAULT_MODELS_ROOT) -> None:
    """Do what the flow does, in this process and without Prefect."""
    embedders = create_embedders(library.modalities, library.vector_settings)
    fingerprints = {name: embedder.spec.fingerprint for name, embedder in embedders.items()}
    remove_stale_temporaries(library.root)
    with Registry.open_for_writing(library.registry_path) as registry:
        reserve_indexed_ids(registry, library.indexes_dir)
        for embedder in embedders.values():
            spec = embedder.spec
            registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
        scan_photos(registry, Path(library.images_root), InProcess(), max_missing_share=1, decode_timeout_s=60)
        if not are_settled(registry, library.shards_dir):
            adopt_shards(registry, library.shards_dir)
        for modality, fingerprint in fingerprints.items():
            registry.copy_vectors(modality, fingerprint)
        for group in list_pending(registry, fingerprints):
            chunk = Chunk(
                images_root=library.images_root,
                shards_dir=str(library.shards_dir),
                models_dir=str(library.models_dir),
                fingerprints={modality: fingerprints[modality] for modality in group.modalities},
                vector_settings=library.vector_settings,
                max_megapixels=256,
                decode_timeout_s=60,
                models_root=str(models_root),
                device="cpu",
                pending=tuple(read_pending(registry, group.start, group.images)),
            )
            path = chunk.write(library.chunks_dir)
            mirror_shards(registry, library.shards_dir, embed_chunk(path, InProcess(), 1).shards)
        shutil.rmtree(library.chunks_dir, ignore_errors=True)
        for modality, fingerprint in fingerprints.items():
            merge_small_shards(registry, library.shards_dir, modality, fingerprint)
        specs = {name: embedder.spec for name, embedder in embedders.items()}
        reports = []
        for name in default_indexes(library.modalities):
            folder, members = IndexFolder(library.indexes_dir, name), index_members(name, specs)
            reports.append(
                update_index(registry, library.shards_dir, folder, members, library.vector_settings, parameters)
            )
        settle_indexes(registry, fingerprints, filter(None, reports))


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
