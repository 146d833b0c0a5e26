"""How well copies are grouped, and how fast: `python -m benchmarks.duplicates [--quick]`.

f1, precision, recall    of pairs of photos that are put into one group, in the library's default index (color, sift,
                         efficientnet), where the ten distortions of benchmarks.quality that show the whole picture or
                         most of it each make a library of their own: the originals, and one copy of each
f1_all                   the same of all fourteen, which a quarter of a picture is among, and a collage of four
small_f1, small_f1_all   the same with the stamps below 128 pixels, half of all, which are as small as 7 pixels
color_f1, …              of each modality alone, and of color and sift combined, ten distortions
per_s                    photos a second of a whole search for copies among 50,000 photos (5,000 with --quick) whose
                         vectors and index are ready: registry, look-ups, exact scores, groups, what to keep. The
                         vectors are made (harness.vector_library); every tenth is a near copy of the one before it.
cpu_ms                   milliseconds of all cores' work a photo in that
found                    the share of those copies that is in a group with its original
peak_mb                  the largest memory of that process, mapped pages of index and registry included

Left out are originals that are copies of other originals, turned left to right or in another size: by their pixels.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import (
    BENCH,
    DEFAULTS,
    PARAMETERS,
    Metric,
    call_fresh,
    members_of,
    peak_bytes,
    report,
    scratch,
    vector_library,
    wants_quick,
)
from benchmarks.index import build_ours
from benchmarks.quality import MEMBERS, describe
from benchmarks.quality_photos import load_photos
from imgrec.embedders.catalogue import create_embedders
from imgrec.search.duplicates.finding import Asked, Duplicates
from imgrec.search.duplicates.likeness import THRESHOLDS
from imgrec.search.fusion import index_members
from imgrec.search.indexes.layout import IndexFolder
from imgrec.search.indexes.updating import update_index
from imgrec.storage.library import Library, create_library, open_library
from imgrec.storage.registry.registry import Registry

WHOLE = ("q15", "crop", "rotated", "grey", "third", "brighter", "text", "mirrored", "turned", "framed")
SIDE = 32
# Two pictures of so little difference, in levels of 256 at 32 × 32 pixels, are one.
SAME = 8.0

Matrix = NDArray[np.float32]
Counts = NDArray[np.int64]


def main() -> None:
    quick = wants_quick(__doc__)
    metrics: dict[str, Metric] = {}
    details: dict[str, str] = {}
    for prefix, smallest_side in (("", 128), ("small_", 0)):
        photos = distinct(load_photos(smallest_side))[:: 6 if quick else 1]
        found = group_copies([image for _, image in photos])
        details[f"{prefix}originals"] = str(len(photos))
        for index, by_kind in found.items():
            name = prefix if index.startswith("combo_color_efficientnet") else f"{prefix}{index}_"
            metrics |= scores(name, by_kind, aim=0.97 if name == "" else None)
        by_kind = found[next(index for index in found if index.startswith("combo_color_efficientnet"))]
        each = {kind: f1(counts) for kind, counts in by_kind.items()}
        details[f"{prefix}f1 by distortion"] = ", ".join(f"{kind} {value:.2f}" for kind, value in each.items())
    count = 5_000 if quick else 50_000
    speed = call_fresh(measure_speed, library_with_copies(count).root)
    metrics["per_s"] = Metric(speed["photos"] / speed["seconds"], 5_000, at_least=True)
    metrics["cpu_ms"] = Metric(speed["cpu_s"] / speed["photos"] * 1e3)
    metrics["found"] = Metric(speed["found"], 0.99, at_least=True)
    metrics["peak_mb"] = Metric(speed["peak"] / 1e6)
    details["photos, groups"] = f"{speed['photos']:,}, {speed['groups']:,}"
    report("duplicates", metrics, details)


def distinct(photos: Sequence[tuple[str, Image.Image]]) -> list[tuple[str, Image.Image]]:
    """Leave out photos that are copies of earlier ones, as they are or turned left to right, in whatever size."""
    small = np.stack([np.asarray(image.resize((SIDE, SIDE)), np.int16) for _, image in photos])
    kept: list[int] = []
    for place, picture in enumerate(small):
        both = np.stack([picture, picture[:, ::-1]])
        if not kept or np.abs(both[:, np.newaxis] - small[kept]).mean(axis=(2, 3, 4)).min() >= SAME:
            kept.append(place)
    return [photos[place] for place in kept]


def group_copies(images: list[Image.Image]) -> dict[str, dict[str, Counts]]:
    """Group originals and their copies of each distortion: by index and distortion, pairs (right, found, to find)."""
    photos = describe([("", image) for image in images])
    indexes = [*MEMBERS, "combo_color_sift", "combo_color_efficientnet_sift"]
    found: dict[str, dict[str, Counts]] = {index: {} for index in indexes}
    for kind, copies in photos.copies.items():
        with scratch("duplicates") as folder:
            vectors = {name: np.concatenate([photos.originals[name], copies[name]]) for name in MEMBERS}
            library = make_library(folder, vectors, indexes)
            for index in indexes:
                found[index][kind] = count_pairs(library, index, len(images))
    return found


def make_library(root: Path, vectors: dict[str, Matrix], indexes: Sequence[str]) -> Library:
    """A library of vectors; one of zeros stands for none."""
    library = create_library(root, root / "photos", MEMBERS, DEFAULTS.vector_settings())
    specs = {name: embedder.spec for name, embedder in create_embedders(MEMBERS, library.vector_settings, None).items()}
    with Registry.open_for_writing(library.registry_path) as registry:
        for spec in specs.values():
            registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
        with registry.transaction():
            registry.connection.executemany(
                """INSERT INTO images (path, size, mtime_ns, ctime_ns, hashed_ns, content_hash, status)
                   VALUES (?1, 1, 0, 0, 0, ?1, 'ok')""",
                [(f"{number:06d}",) for number in range(len(vectors[MEMBERS[0]]))],
            )
            for name, rows in vectors.items():
                fingerprint = specs[name].fingerprint
                registry.connection.executemany(
                    f"INSERT INTO {name}_vectors VALUES (?, ?, ?)",
                    [(i, fingerprint, np.asarray(row, "<f4").tobytes()) for i, row in enumerate(rows, 1) if row.any()],
                )
                registry.connection.executemany(
                    "INSERT INTO vector_failures VALUES (?, ?, 'no_features', '')",
                    [(f"{i:06d}", fingerprint) for i, row in enumerate(rows) if not row.any()],
                )
        for index in indexes:
            folder, members = IndexFolder(library.indexes_dir, index), index_members(index, specs)
            update_index(registry, library.shards_dir, folder, members, library.vector_settings, PARAMETERS)
    return library


def count_pairs(library: Library, index: str, originals: int) -> Counts:
    """Count pairs of photos in one group: those that are right, all that were found, those that are to be found."""
    label = np.arange(2 * originals)
    with Registry.open_for_reading(library.registry_path) as registry:
        for group in Duplicates(library, registry, Asked(index=index), lambda *_: None).groups():
            label[[copy.id - 1 for copy in group.copies]] = group.number - 1
    right = int((label[:originals] == label[originals:]).sum())
    sizes = np.bincount(label)
    return np.array([right, (sizes * (sizes - 1) // 2).sum(), originals])


def scores(prefix: str, by_kind: dict[str, Counts], aim: float | None) -> dict[str, Metric]:
    """The metrics of an index, over the pairs of all distortions."""
    whole, every = sum(by_kind[kind] for kind in WHOLE), sum(by_kind.values())
    right, found, there = np.asarray(whole).tolist()
    return {
        f"{prefix}f1": Metric(f1(np.asarray(whole)), aim, at_least=True),
        f"{prefix}precision": Metric(right / max(found, 1)),
        f"{prefix}recall": Metric(right / there),
        f"{prefix}f1_all": Metric(f1(np.asarray(every))),
    }


def f1(counts: Counts) -> float:
    right, found, there = counts.tolist()
    return float(2 * right / (found + there))


def library_with_copies(count: int) -> Library:
    """A library of made vectors, its default index built, in which every tenth photo is a near copy of the one before.

    The next benchmark finds it.
    """
    root = BENCH / f"duplicates-{count}"
    if not (root / "complete-index").exists():
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(vector_library(count, "sift", "efficientnet").root, root)
        shutil.rmtree(root / "indexes", ignore_errors=True)
        _make_copies(open_library(root), np.arange(10, count + 1, 10))
        call_fresh(build_ours, root)
        (root / "complete-index").touch()
    return open_library(root)


def _make_copies(library: Library, ids: NDArray[np.int64]) -> None:
    """Let each of these photos have vectors like those of the photo before it: a bit above the thresholds."""
    random = np.random.default_rng(0)
    with Registry.open_for_writing(library.registry_path) as registry:
        for member in members_of(library):
            cosine = min(THRESHOLDS[member.modality] + 0.03, 0.995)
            originals = registry.vectors(member.modality, member.fingerprint, (ids - 1).tolist())
            rows = np.stack([originals[image_id] for image_id in (ids - 1).tolist()])
            noise = random.standard_normal(rows.shape, np.float32)
            noise -= (noise * rows).sum(axis=1, keepdims=True) * rows
            noise *= np.sqrt(1 - cosine**2) / np.linalg.norm(noise, axis=1, keepdims=True)
            blobs = [(row.tobytes(), i) for row, i in zip(cosine * rows + noise, ids.tolist(), strict=True)]
            registry.connection.executemany(
                f"UPDATE {member.modality}_vectors SET vector = ? WHERE image_id = ?", blobs
            )


def measure_speed(root: str) -> dict[str, Any]:
    """Look for copies in a library whose vectors and index are ready."""
    library = open_library(Path(root))
    with Registry.open_for_reading(library.registry_path) as registry:
        started, worked = time.perf_counter(), time.process_time()
        found = Duplicates(library, registry, Asked(), lambda *_: None)
        groups = [{copy.id for copy in group.copies} for group in found.groups()]
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - worked
    label = {image_id: number for number, ids in enumerate(groups) for image_id in ids}
    copies = range(10, found.photos + 1, 10)
    share = sum(label.get(image_id, -1) == label.get(image_id - 1, -2) for image_id in copies) / len(copies)
    return {
        "photos": found.photos,
        "groups": len(groups),
        "seconds": seconds,
        "cpu_s": cpu_s,
        "found": share,
        "peak": peak_bytes(),
    }


if __name__ == "__main__":
    main()
