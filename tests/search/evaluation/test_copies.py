"""Copies made on the fly: found by what they are of, and nothing of them stays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.machine import Machine
from imgrec.search.evaluation.copies import KINDS, Copies, find_originals, make_copies
from imgrec.search.evaluation.distortions import DISTORTIONS
from imgrec.search.evaluation.engine import StoredVectors, open_subjects
from imgrec.search.evaluation.errors import EvaluationError
from imgrec.search.evaluation.weightings import weighting_of
from imgrec.storage.library import Library
from imgrec.storage.photos.decoding import decode
from imgrec.storage.registry.registry import Registry
from tests.storage.pictures import InProcess

LIMITS = {"max_megapixels": 256.0, "decode_timeout_s": 60.0}


def copies_of(library: Library, registry: Registry, photos: int = 100) -> tuple[StoredVectors, Copies]:
    stored = StoredVectors(registry, library, open_subjects(library))
    return stored, make_copies(stored, library, photos, 0, InProcess(), 4, LIMITS, Machine())


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file() and path.suffix not in (".sqlite-shm", ".sqlite-wal")
    }


def test_originals_are_found_and_nothing_is_written(pictures: Library) -> None:
    before = files(pictures.root) | files(Path(pictures.images_root))
    with Registry.open_for_reading(pictures.registry_path) as registry:
        stored, copies = copies_of(pictures, registry)
        weighting = weighting_of(open_subjects(pictures)[0])
        scores = find_originals(stored, copies, [weighting], among=0, seed=0)
    assert before == files(pictures.root) | files(Path(pictures.images_root))
    assert (len(copies.photos), copies.lost, scores.among) == (9, 0, 9)  # eight pictures, one of them twice
    found = scores.found["color"]
    assert found.shape == (9, KINDS)
    by_kind = dict(zip(DISTORTIONS, found.mean(axis=0).tolist(), strict=True))
    assert by_kind["mirrored"] == by_kind["turned"] == by_kind["third"] == 1.0  # colours are the same
    assert by_kind["grey"] < 0.6  # and here they are not
    assert all((row != photo).all() for row, photo in zip(copies.beside, copies.photos, strict=True))


def test_copies_have_the_vectors_that_their_pixels_have(pictures: Library) -> None:
    with Registry.open_for_reading(pictures.registry_path) as registry:
        stored, copies = copies_of(pictures, registry, photos=4)
        paths = registry.images(copies.photos.tolist())
        pixels = decode((Path(pictures.images_root) / paths[int(copies.photos[0])].file_path).read_bytes(), 128, 256)
    embedder = create_embedder("color", stored.vector_settings)
    mirrored = embedder.embed([np.ascontiguousarray(pixels[:, ::-1])])[0]
    row = copies.rows["color"].reshape(4, KINDS, -1)[0, DISTORTIONS.index("mirrored")]
    assert float(row @ mirrored) == pytest.approx(1, abs=0.02)  # but for the size that copies are made at
    assert np.linalg.norm(copies.rows["color"], axis=1) == pytest.approx(1, abs=1e-5)


def test_what_a_collage_shows_beside_and_copies_of_the_original_do_not_count(pictures: Library) -> None:
    with Registry.open_for_reading(pictures.registry_path) as registry:
        stored, made = copies_of(pictures, registry)
        weighting = weighting_of(open_subjects(pictures)[0])
        others = stored.of(made.beside[:, 0])["color"]
        rows = np.zeros_like(made.rows["color"]).reshape(len(made.photos), KINDS, -1)
        rows[:, DISTORTIONS.index("collage")] = others  # as like another photo of the collage as can be
        rows[:, DISTORTIONS.index("crop")] = others
        rows[:, DISTORTIONS.index("grey")] = stored.of(made.photos)["color"]
        copies = replace(made, rows={"color": rows.reshape(-1, rows.shape[-1])})
        found = find_originals(stored, copies, [weighting], among=0, seed=0).found["color"]
    kinds = dict(zip(DISTORTIONS, found.T, strict=True))
    assert kinds["collage"].mean() > kinds["crop"].mean() == 0
    assert kinds["grey"].all()
    assert not kinds["noisy"].any()  # without a vector, nothing is found


def test_photos_that_are_gone_or_changed_are_counted(pictures: Library, tmp_path: Path) -> None:
    for path in Path(pictures.images_root).rglob("*"):
        target = tmp_path / path.relative_to(pictures.images_root)
        if path.is_file() and path.stem not in ("rocket", "china"):
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes() + (b" " if path.stem == "camera" else b""))
    moved = replace(pictures, images_root=str(tmp_path))
    with Registry.open_for_reading(pictures.registry_path) as registry:
        _, copies = copies_of(moved, registry)
        assert 3 <= copies.lost < 9  # those three, and whose collage one of the two would have been in
        assert len(copies.photos) == len(copies.beside) == 9 - copies.lost
        assert len(copies.rows["color"]) == len(copies.photos) * KINDS
        with pytest.raises(EvaluationError, match="none of 9 photos could be read below"):
            copies_of(replace(pictures, images_root=str(tmp_path / "nowhere")), registry)
        with pytest.raises(EvaluationError, match="3 photos are too few for copies"):
            copies_of(pictures, registry, photos=3)
