"""Many threads of one process, which share file descriptor 2, the filters of warnings, and the umask."""

import io
import os
import stat
import warnings
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgrec.storage.errors import ImageError
from imgrec.storage.machine.atomic import write_atomic
from imgrec.storage.photos.decoding import decode

THREADS = 16


def pictures() -> dict[str, bytes]:
    """Pictures by what is the matter with them."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8))
    whole = encode(noise, "JPEG")
    return {
        "sound": whole,
        "grey": encode(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG"),
        "padded": whole[: len(whole) // 2] + b"\xff\xd9",
        "cut": whole[: len(whole) // 2],
        "of damaged EXIF": encode(noise, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05broken"),
    }


def encode(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def outcome(data: bytes) -> bytes | str:
    try:
        return decode(data, 64, 256).tobytes()
    except ImageError as error:
        return f"{error.status}: {error}"


def test_pictures_decode_the_same_in_many_threads(capfd: pytest.CaptureFixture[str]) -> None:
    """The terminal gets what other threads write there meanwhile, and nothing of the pictures."""
    kinds = pictures()
    alone = {kind: outcome(data) for kind, data in kinds.items()}
    assert isinstance(alone["sound"], bytes)
    assert set(alone["grey"]) == {128}
    assert "a part of its data is missing" in str(alone["padded"])

    def decode_one(kind: str) -> tuple[str, bytes | str]:
        os.write(2, b".")
        return kind, outcome(kinds[kind])

    with ThreadPoolExecutor(THREADS) as threads:
        found = list(threads.map(decode_one, islice(cycle(kinds), 8 * len(kinds))))
    assert [kind for kind, result in found if result != alone[kind]] == []
    assert capfd.readouterr().err == "." * len(found)


def test_decoding_leaves_the_warnings_of_other_threads_alone() -> None:
    data = pictures()["of damaged EXIF"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = warnings.filters
        with ThreadPoolExecutor(THREADS) as threads:
            decoding = [threads.submit(decode, data, 64, 256) for _ in range(200)]
            said = 0
            while not all(future.done() for future in decoding):
                warnings.warn("of another thread", stacklevel=1)
                said += 1
        assert warnings.filters is before
    # Beside them there may be some of what earlier tests left to the garbage collector.
    heard = [str(warning.message) for warning in caught if not issubclass(warning.category, ResourceWarning)]
    assert heard == ["of another thread"] * said


def test_writing_changes_the_umask_of_no_other_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: pytest.fail("the umask is the whole process'"))
            write_atomic(tmp_path / "file", b"data")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    finally:
        os.umask(before)
