"""What a dry run says that vectors take, against the files of a library that has them."""

from pathlib import Path

import pytest

from imgrec.flows.pipeline.dry_run import estimate_disk
from imgrec.search.fusion import index_modalities
from imgrec.search.indexes.layout import IndexFolder, Member
from imgrec.search.indexes.updating import update_index
from imgrec.search.names import combined_name
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard
from tests.search.libraries import PARAMETERS, random_rows
from tests.storage.rows import add_image, hash_of, write

COUNT = 1_024
DIMS = {"color": 512, "sift": 2_048, "efficientnet": 1_280}
FINGERPRINTS = {name: name[0] * 16 for name in DIMS}


def size_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def pages(registry: Registry) -> int:
    """Bytes of the registry, empty pages left out."""
    count, free, size = (
        registry.connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((count - free) * size)


def test_a_dry_run_says_what_each_copy_takes(tmp_path: Path) -> None:
    names = [*DIMS, combined_name(list(DIMS))]
    estimate = estimate_disk(COUNT, DIMS, names, PARAMETERS.hnsw_m)
    measured: dict[str, int] = {}
    shards_dir, indexes_dir = tmp_path / "shards", tmp_path / "indexes"
    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        for name, dim in DIMS.items():
            registry.register_fingerprint(FINGERPRINTS[name], name, dim, {})
        before = pages(registry)
        with registry.transaction():
            for number in range(COUNT):
                add_image(registry, number, f"Pictures/2026/2026-07 Summer holidays/IMG_{number:04d}.jpg")
            registry.connection.execute(
                """UPDATE images SET size = 3000000 + id, mtime_ns = 1600000000000000000, ctime_ns = mtime_ns + id,
                   hashed_ns = ctime_ns, width = 4032, height = 3024, format = 'JPEG'"""
            )
        measured["registry.sqlite, images"] = pages(registry) - before
        before = pages(registry)
        hashes = tuple(map(hash_of, range(COUNT)))
        for name, dim in DIMS.items():
            shard = Shard(name, FINGERPRINTS[name], hashes, random_rows(COUNT, dim))
            mirror_shards(registry, shards_dir, [write(shards_dir, shard)])
        measured["registry.sqlite, vectors"] = pages(registry) - before
        measured["shards"] = size_below(shards_dir)
        for name in names:
            before = pages(registry)
            weights = index_modalities(name, list(DIMS))
            members = tuple(Member(part, FINGERPRINTS[part], DIMS[part], weight) for part, weight in weights.items())
            folder = IndexFolder(indexes_dir, name)
            update_index(registry, shards_dir, folder, members, {}, PARAMETERS)
            measured[f"index {name}"] = size_below(folder.root) + pages(registry) - before
    told = "\n".join(f"{what}: {estimate[what]:,} said, {measured[what]:,} taken" for what in estimate)
    assert estimate.keys() == measured.keys()
    for what, size in measured.items():
        assert estimate[what] == pytest.approx(size, rel=0.25 if "images" in what else 0.02), told
    assert sum(estimate.values()) == pytest.approx(sum(measured.values()), rel=0.02), told
