"""A library whose vectors are those of real pictures, in three modalities, without photos: to measure indexes on.

Beyond the real vectors (benchmarks.real_vectors) come mixtures of two of them in the same shares in every modality, so
that a made photo is alike to the same two photos in all.
"""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.harness import BENCH, DEFAULTS, ROWS_PER_SHARD, Vectors, add_images, hash_of_number
from benchmarks.real_vectors import MODALITIES, real_vectors
from imgrec.embedders.catalogue import create_embedders
from imgrec.search.fusion import index_members
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.search.indexes.updating import IndexReport, settle_indexes, update_index
from imgrec.storage.library import Library, create_library, open_library
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import NO_FEATURES, Failure, Shard, digest_of, shard_path, write_shard


def real_library(count: int, modalities: tuple[str, ...] = MODALITIES, quick: bool = False) -> Library:
    """A library of `count` photos, without indexes; the next benchmark finds it."""
    root = BENCH / f"real-{'-'.join(modalities)}-{count}{'-quick' if quick else ''}"
    complete = root / "complete"
    if not complete.exists():
        shutil.rmtree(root, ignore_errors=True)
        library = create_library(root, root / "photos", modalities, DEFAULTS.vector_settings())
        with Registry.open_for_writing(library.registry_path) as registry:
            grow(library, registry, 0, count, quick)
        complete.touch()
    return open_library(root)


def grow(library: Library, registry: Registry, start: int, end: int, quick: bool = False) -> None:
    """Give a library the photos of these numbers, with their vectors."""
    embedders = create_embedders(library.modalities, library.vector_settings, None)
    for first in range(start, end, ROWS_PER_SHARD):
        numbers = range(first, min(first + ROWS_PER_SHARD, end))
        add_images(registry, numbers)
        for spec in (embedder.spec for embedder in embedders.values()):
            registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
            vectors = vectors_of(spec.name, numbers, quick)
            known = np.linalg.norm(vectors, axis=1) > 0
            hashes = [hash_of_number(number) for number in numbers]
            contents = tuple(content for content, is_known in zip(hashes, known, strict=True) if is_known)
            failures = tuple(
                Failure(content, NO_FEATURES, "nothing to see")
                for content, is_known in zip(hashes, known, strict=True)
                if not is_known
            )
            path = shard_path(library.shards_dir, spec.name, spec.fingerprint, digest_of(spec.fingerprint, hashes))
            write_shard(path, Shard(spec.name, spec.fingerprint, contents, vectors[known], failures))
            mirror_shards(registry, library.shards_dir, [path])


def vectors_of(modality: str, numbers: range, quick: bool = False) -> Vectors:
    """The vectors of photos, (N, dim): real ones, then mixtures of two; rows of zeros where a photo has none."""
    real = real_vectors(modality, quick)
    order = np.random.default_rng(0).permutation(len(real))
    rows = np.empty((len(numbers), real.shape[1]), np.float32)
    for place, number in enumerate(numbers):
        if number < len(real):
            rows[place] = real[order[number]]
            continue
        random = np.random.default_rng(number)
        one, other, share = *random.integers(len(real), size=2), random.uniform(0.6, 0.95)
        mixed = share * real[one] + (1 - share) * real[other]
        rows[place] = mixed / max(float(np.linalg.norm(mixed)), 1e-12)
    return rows


def update(
    library: Library, registry: Registry, name: str, parameters: IndexParameters, rebuild: bool = False
) -> IndexReport:
    """Bring one index of a library in step, and note that it is."""
    specs = {n: e.spec for n, e in create_embedders(library.modalities, library.vector_settings, None).items()}
    folder = IndexFolder(library.indexes_dir, name)
    members = index_members(name, specs)
    report = update_index(registry, library.shards_dir, folder, members, library.vector_settings, parameters, rebuild)
    if report is None:
        raise RuntimeError(f"{name} has no vectors")
    settle_indexes(registry, {spec.name: spec.fingerprint for spec in specs.values()}, [report])
    return report


def copy_of(library: Library, target: Path) -> Library:
    """A copy that a benchmark may change."""
    shutil.copytree(library.root, target)
    return open_library(target)
