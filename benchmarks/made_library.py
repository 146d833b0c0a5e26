"""A library of millions of images that no photo was ever taken for, written by SQL alone in a minute or two.

It is what an ingest with nothing to do looks at: rows, vectors, shards, published indexes. Its photos came in ten
ingests, each of which added to all folders, so neighbours in a folder have ids that lie far apart. A hundredth of them
is missing, 1 of 500 is corrupt, and SIFT finds nothing in 1 of 50. Vectors have 16 dimensions: nothing that an ingest
asks of old images reads a vector.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import BENCH, PARAMETERS
from imgrec.search.fusion import default_indexes, index_modalities
from imgrec.search.indexes.kinds.catalogue import kind_of
from imgrec.search.indexes.kinds.kind import Training
from imgrec.search.indexes.layout import IndexFolder, Made, Member, SegmentEntry
from imgrec.search.indexes.segment import build_segment
from imgrec.search.indexes.vectors import Ids, Vectors
from imgrec.search.names import combined_name
from imgrec.storage.library import Library, create_library, open_library
from imgrec.storage.names import vector_table
from imgrec.storage.photos.walk import FoundFile
from imgrec.storage.registry.registry import Registry
from imgrec.storage.registry.sql import LIVE

MODALITIES = ("color", "sift", "efficientnet")
FINGERPRINTS = {name: f"{name:.1}" * 16 for name in MODALITIES}
DIM = 16
MADE_VECTORS = 4_096
INGESTS = 10
PER_FOLDER = 500
VECTORS_PER_SHARD = 1_000
THEN_NS = 1_600_000_000 * 10**9
AN_HOUR_NS = 3_600 * 10**9
_MISSING, _CORRUPT, _NO_FEATURES = "i % 100 = 7", "i % 500 = 3", "i % 50 = 11"


def made_library(count: int) -> Library:
    """The library of `count` images (a multiple of 500); the next benchmark finds it."""
    root = BENCH / f"made-{count}"
    complete = root / "complete"
    if not complete.exists():
        shutil.rmtree(root, ignore_errors=True)
        _make(root, count)
        complete.touch()
    return open_library(root)


def made_files(count: int) -> Iterator[FoundFile]:
    """What a walk of its photos yields."""
    for folder in range(count // PER_FOLDER):
        for number in range(PER_FOLDER):
            i = _row(folder, number, count)
            if i % 100 != 7:
                yield FoundFile(f"{folder:05d} Summer/IMG_{number:04d}.jpg", 2_000_000 + i, THEN_NS + i, THEN_NS + i)


def made_members(name: str) -> tuple[Member, ...]:
    """The members of one of its indexes."""
    weights = index_modalities(name, MODALITIES)
    return tuple(Member(part, FINGERPRINTS[part], DIM, weight) for part, weight in weights.items())


def _row(folder: int, number: int, count: int) -> int:
    return number % INGESTS * (count // INGESTS) + folder * (PER_FOLDER // INGESTS) + number // INGESTS


def _make(root: Path, count: int) -> None:
    library = create_library(root, root / "photos", MODALITIES, {})
    (root / "photos").mkdir()
    with Registry.open_for_writing(library.registry_path) as registry:
        for name, fingerprint in FINGERPRINTS.items():
            registry.register_fingerprint(fingerprint, name, DIM, {})
    with Registry.open_for_writing(library.registry_path) as registry:
        for pragma in ("synchronous = OFF", "foreign_keys = OFF", "cache_size = -500000"):
            registry.connection.execute(f"PRAGMA {pragma}")
        with registry.transaction():
            _add_images(registry, count)
            _add_outcomes(registry)
        _add_shards(registry, library, count)
        for name in default_indexes(MODALITIES):
            _add_index(registry, library, name)


def _add_images(registry: Registry, count: int) -> None:
    run = registry.connection.execute
    indexes = run("SELECT name, sql FROM sqlite_master WHERE tbl_name = 'images' AND type = 'index'").fetchall()
    for name, _ in indexes:
        run(f"DROP INDEX {name}")
    each, part = count // INGESTS, PER_FOLDER // INGESTS
    run(
        f"""WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {count - 1})
            INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, width, height, format, status,
                                reason, missing_since, header_read)
            SELECT printf('%05d Summer/IMG_%04d.jpg', i % {each} / {part}, i % {part} * {INGESTS} + i / {each}),
                   2000000 + i, {THEN_NS} + i, {THEN_NS} + i, {THEN_NS + AN_HOUR_NS}, randomblob(32), 4000, 3000,
                   'JPEG', CASE WHEN {_CORRUPT} THEN 'corrupt' ELSE 'ok' END,
                   CASE WHEN {_CORRUPT} THEN 'image file is truncated' END,
                   CASE WHEN {_MISSING} THEN '2026-01-01T00:00:00+00:00' END, 1 FROM n"""
    )
    for _, sql in indexes:
        run(sql)


def _add_outcomes(registry: Registry) -> None:
    """Vectors of the images that are not corrupt, and reasons why there is none of the others."""
    images = "(SELECT id - 1 AS i, * FROM images)"
    made = np.random.default_rng(0).standard_normal((MADE_VECTORS, DIM), np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    registry.connection.execute("CREATE TEMP TABLE made (number INTEGER PRIMARY KEY, vector BLOB)")
    registry.connection.executemany("INSERT INTO made VALUES (?, ?)", enumerate(row.tobytes() for row in made))
    for modality, fingerprint in FINGERPRINTS.items():
        none = f"({_CORRUPT} OR {_NO_FEATURES})" if modality == "sift" else _CORRUPT
        registry.connection.execute(
            f"INSERT INTO {vector_table(modality)} SELECT id, '{fingerprint}', vector "
            f"FROM {images} JOIN temp.made ON number = i % {MADE_VECTORS} WHERE NOT {none}"
        )
        registry.connection.execute(
            f"""INSERT INTO vector_failures SELECT content_hash, '{fingerprint}',
                CASE WHEN {_CORRUPT} THEN 'corrupt' ELSE 'no_features' END, 'because' FROM {images} WHERE {none}"""
        )


def _add_shards(registry: Registry, library: Library, count: int) -> None:
    """Empty files, since nothing opens what did not change."""
    with registry.transaction():
        for modality, fingerprint in FINGERPRINTS.items():
            folder = library.shards_dir / modality / fingerprint
            folder.mkdir(parents=True)
            for number in range(count // VECTORS_PER_SHARD):
                path = folder / f"{number:032x}.parquet"
                path.touch()
                registry.connection.execute(
                    """INSERT INTO shards (path, modality, fingerprint, checksum, vectors, bytes, verified_ctime_ns)
                       VALUES (?, ?, ?, '', ?, 0, ?)""",
                    (
                        *(str(path.relative_to(library.shards_dir)), modality, fingerprint),
                        *(VECTORS_PER_SHARD, path.stat().st_ctime_ns),
                    ),
                )


def _add_index(registry: Registry, library: Library, name: str) -> None:
    members, folder = made_members(name), IndexFolder(library.indexes_dir, name)
    table = vector_table("color" if name == combined_name(MODALITIES) else name)
    rows = registry.connection.execute(
        f"SELECT id FROM images WHERE {LIVE} AND id IN (SELECT image_id FROM {table}) ORDER BY id"
    )
    ids = np.fromiter((row[0] for row in rows), np.int64)
    segment = folder.new_segment_name()
    batches = _batches(ids, DIM * len(members))
    sample = np.eye(DIM * len(members), dtype=np.float32)
    training = Training(sample, len(ids), PARAMETERS.hnsw_m, PARAMETERS.ef_construction)
    build_segment(folder.segment_dir(segment), kind_of("exact"), batches, training)
    with registry.transaction():
        registry.connection.execute(
            f"""INSERT INTO index_rows SELECT ?, ?, row_number() OVER (ORDER BY id) - 1, id FROM images
                WHERE {LIVE} AND id IN (SELECT image_id FROM {table}) ORDER BY id""",
            (name, segment),
        )
    made = Made("exact", "made for a benchmark", 64, None)
    manifest = folder.new_manifest(members, {}, PARAMETERS.kept, [SegmentEntry(segment, "exact", len(ids))], made)
    folder.write_version(manifest, {})
    folder.point_to(manifest)


def _batches(ids: Ids, dim: int) -> Iterator[tuple[Ids, Vectors]]:
    random = np.random.default_rng(0)
    for start in range(0, len(ids), 100_000):
        some = ids[start : start + 100_000]
        yield some, random.standard_normal((len(some), dim), np.float32)
