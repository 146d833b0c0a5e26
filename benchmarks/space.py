"""What a library takes on disk: `python -m benchmarks.space [--quick]`.

disk_vs_vectors  all files of a default library (color, sift, efficientnet and their combination) of 5,000 photos (1,000
                 with --quick; benchmarks.real_library), against its raw vectors, four bytes a number; vectors that
                 equal others, and photos in which sift finds nothing, as real libraries have them
estimate         what `imgrec ingest --dry-run` says of the same photos, against what it came to
"""

from pathlib import Path

from benchmarks.harness import DEFAULTS, Metric, report, scratch, wants_quick
from benchmarks.real_library import copy_of, real_library, update
from imgrec.embedders.catalogue import create_embedders
from imgrec.flows.pipeline.dry_run import estimate_disk
from imgrec.search.fusion import default_indexes
from imgrec.search.indexes.parameters import IndexParameters
from imgrec.storage.registry.registry import Registry


def size_of(folder: Path) -> int:
    """Bytes that a folder's files take on the disk, with what is left of their last blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def main() -> None:
    quick = wants_quick(__doc__)
    count = 1_000 if quick else 5_000
    with scratch("space") as folder:
        library = copy_of(real_library(count), folder / "library")
        with Registry.open_for_writing(library.registry_path) as registry:
            for name in default_indexes(library.modalities):
                update(library, registry, name, IndexParameters())
            registry.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            specs = [e.spec for e in create_embedders(library.modalities, library.vector_settings, None).values()]
            raw = sum(4 * spec.dim * registry.count_vectors(spec.name, spec.fingerprint) for spec in specs)
        parts = {
            path.name: size_of(path) if path.is_dir() else path.stat().st_blocks * 512
            for path in library.root.iterdir()
        }
        indexes = {path.name: size_of(path) for path in library.indexes_dir.iterdir()}
    dims = {spec.name: spec.dim for spec in specs}
    foreseen = estimate_disk(count, dims, default_indexes(library.modalities), DEFAULTS.hnsw_m)
    metrics = {
        "disk_vs_vectors": Metric(sum(parts.values()) / raw, 2.7),
        "estimate": Metric(sum(foreseen.values()) / sum(parts.values())),
    }
    details = {f"{name}, of the raw vectors": f"{size / raw:.3f}" for name, size in sorted(parts.items())}
    details |= {f"index {name}": f"{size / raw:.3f}" for name, size in sorted(indexes.items())}
    report("space", metrics, {"raw vectors": f"{raw / 1e6:,.1f} MB", **details})


if __name__ == "__main__":
    main()
