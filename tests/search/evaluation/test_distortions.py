"""The fourteen distortions."""

import numpy as np
from PIL import Image

from benchmarks.pictures import real_pictures
from imgrec.search.evaluation.distortions import DISTORTIONS, distort


def test_there_are_fourteen_each_another_picture_and_the_same_for_the_same_seed() -> None:
    image, *others = (Image.open(path).convert("RGB").resize((90, 60)) for path in real_pictures()[:4])
    first = distort(image, others, np.random.default_rng(1))
    again = distort(image, others, np.random.default_rng(1))
    assert tuple(first) == DISTORTIONS
    assert len(DISTORTIONS) == 14
    assert [copy.tobytes() for copy in first.values()] == [copy.tobytes() for copy in again.values()]
    assert len({copy.tobytes() for copy in first.values()} | {image.tobytes()}) == 15
    assert all(copy.mode == "RGB" for copy in first.values())
    assert {kind: first[kind].size for kind in ("collage", "turned", "third", "framed", "quarter", "mirrored")} == {
        "collage": (180, 120), "turned": (60, 90), "third": (30, 20), "framed": (144, 96), "quarter": (45, 30),
        "mirrored": (90, 60),
    }  # fmt: skip


def test_a_picture_of_one_pixel_has_copies_too() -> None:
    dot = Image.new("RGB", (1, 1), "teal")
    assert len(distort(dot, [dot, dot, dot], np.random.default_rng(0))) == 14
