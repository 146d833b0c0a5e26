"""How many vectors a second the driver takes from shards into the registry."""

import time

import numpy as np

from benchmarks.harness import DEFAULTS, ROWS_PER_SHARD, add_images, hash_of_number, scratch
from imgrec.storage.library import create_library
from imgrec.storage.mirror import mirror_shards
from imgrec.storage.registry.registry import Registry
from imgrec.storage.shards import Shard, digest_of, shard_path, write_shard

MODALITY, FINGERPRINT, DIM = "openclip", "0123456789abcdef", 768


def mirror_per_s(count: int) -> tuple[float, float]:
    """Vectors a second of wall time, and of CPU time, of `count` in shards of 1,024 that are there."""
    random = np.random.default_rng(0)
    with scratch("mirror") as folder:
        library = create_library(folder / "library", folder / "photos", (MODALITY,), DEFAULTS.vector_settings())
        with Registry.open_for_writing(library.registry_path) as registry:
            registry.register_fingerprint(FINGERPRINT, MODALITY, DIM, {})
            paths = []
            for start in range(0, count, ROWS_PER_SHARD):
                numbers = range(start, min(start + ROWS_PER_SHARD, count))
                add_images(registry, numbers)
                contents = tuple(hash_of_number(number) for number in numbers)
                vectors = random.standard_normal((len(contents), DIM), np.float32)
                paths.append(shard_path(library.shards_dir, MODALITY, FINGERPRINT, digest_of(FINGERPRINT, contents)))
                write_shard(paths[-1], Shard(MODALITY, FINGERPRINT, contents, vectors))
            wall, cpu = time.perf_counter(), time.process_time()
            assert mirror_shards(registry, library.shards_dir, paths) == count
            return count / (time.perf_counter() - wall), count / (time.process_time() - cpu)
