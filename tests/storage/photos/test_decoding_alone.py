"""A picture whose decoder may crash or hang, decoded for whoever must not end with it."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.storage.errors import ImageError
from imgrec.storage.photos.decoding import decode
from imgrec.storage.photos.decoding_alone import decode_safely
from tests.flows import hostile
from tests.flows.nasty import encode, noise, picture, unusable

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")


@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_the_pixels_are_those_of_any_decode(monkeypatch: pytest.MonkeyPatch, format: str, unbuffered: bool) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "1" if unbuffered else "")
    data = encode(noise(), format)
    assert np.array_equal(decode_safely(data, 64, 1, 60), decode(data, 64, 1))


def test_only_what_is_not_well_tried_costs_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    run = subprocess.run

    def counting(*arguments: object, **named: object) -> object:
        started.append(arguments)
        return run(*arguments, **named)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "run", counting)
    for format in FORMATS:
        before = len(started)
        decode_safely(encode(picture(), format), 64, 1, 60)
        assert len(started) - before == (format in ("BMP", "TIFF", "AVIF")), format


@pytest.mark.parametrize("name", ["lzw-garbage.tif", "truncated.tiff", "garbage.webp", "empty.png", "truncated.avif"])
def test_a_failure_has_the_status_that_an_ingest_gives_it(name: str) -> None:
    data, status = unusable()[name]
    with pytest.raises(ImageError) as failure:
        decode_safely(data, 64, 1, 60)
    assert failure.value.status == status


def test_a_picture_that_is_too_large_names_the_limit() -> None:
    data = encode(Image.new("RGB", (2_000, 1_000)), "TIFF")
    with pytest.raises(ImageError, match=r"2000×1000 pixels are more than max_megapixels = 1$"):
        decode_safely(data, 64, 1, 60)


@pytest.mark.parametrize(
    ("deed", "status", "said"),
    [
        ("segfault", "crashed_decoder", "SIGSEGV"),
        ("exit", "crashed_decoder", "exit code 7"),
        ("killed", "out_of_memory", "SIGKILL"),
        ("no_memory", "out_of_memory", "not enough memory"),
        ("hang_with_the_gil", "decoder_hangs", "decode_timeout_s = 2"),
        ("nothing", None, ""),
    ],
)
def test_a_decoder_that_crashes_or_hangs_ends_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deed: str, status: str | None, said: str
) -> None:
    for name, value in hostile.install(tmp_path / "plugin").items():
        monkeypatch.setenv(name, value)
    data = (tmp_path / hostile.write(tmp_path, "pixels", deed, 1)).read_bytes()
    started = time.monotonic()
    if status is None:
        assert decode_safely(data, 64, 1, 60).shape == (8, 8, 3)
    else:
        with pytest.raises(ImageError, match=said) as failure:
            decode_safely(data, 64, 1, 2 if "hang" in deed else 60)
        assert failure.value.status == status
    assert time.monotonic() - started < 30
    assert "pixels" in Path(os.environ["DEEDS"]).read_text()
