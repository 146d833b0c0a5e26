"""An embedder of another package that fails on one photo: told for it, and everything else goes on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.embedders import catalogue
from tests.flows.conftest import Imgrec

# Fails on pictures that are taller than wide, or on all, as long as a file says so.
CODE = """
from pathlib import Path
import numpy as np
from imgrec.embedders.base import Embedder, EmbedderSpec

class Fragile(Embedder):
    spec = EmbedderSpec("fragile", 1, 2, 448)

    def embed(self, batch):
        mood = Path(__file__).with_name("mood").read_text()
        for pixels in batch:
            if mood == "all" or (mood == "some" and pixels.shape[0] > pixels.shape[1]):
                raise IndexError("too\\ntall")
        return np.tile(np.float32([0.6, 0.8]), (len(batch), 1))

def make(settings, models_dir):
    return Fragile()
"""


@pytest.fixture
def mood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    info = tmp_path / "site" / "fragile_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fragile-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imgrec.embedders]\nfragile = fragile_package:make\n")
    (tmp_path / "site" / "fragile_package.py").write_text(CODE)
    catalogue._installed.cache_clear()
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path / "site" / "mood"
    catalogue._installed.cache_clear()


def test_a_photo_it_fails_on_is_told_and_tried_again_when_asked(
    imgrec: Imgrec, photos: Path, library: Path, mood: Path
) -> None:
    mood.write_text("all")
    chosen = ("--library", library, "--modality", "color", "--modality", "fragile")
    refused = imgrec("ingest", photos, *chosen)
    assert refused.code == 1
    assert "fragile fails on every picture (IndexError: too tall): install what it is from anew" in refused.err
    assert "Traceback" not in refused.err

    mood.write_text("some")
    (report,) = imgrec("ingest", photos, *chosen, "--json").lines
    tall = report["failures"]["embedder_failed"]
    assert 0 < tall < 6
    assert (report["images"]["ok"], report["indexes"]["color"]["vectors"]) == (6, 6)
    assert report["indexes"]["fragile"]["vectors"] == 6 - tall
    told = imgrec("failures", "--library", library, "--json").lines
    assert {(line["status"], line["reason"]) for line in told} == {
        ("embedder_failed", "fragile fails on this picture: IndexError: too tall")
    }
    assert all("--retry-failed" in line["remedy"] for line in told)
    query = photos / told[0]["path"]
    answer = imgrec("search", query, "--library", library, "--index", "fragile")
    assert (answer.code, "fragile fails on this picture: IndexError: too tall" in answer.err) == (1, True)
    (combined,) = imgrec("search", query, "--library", library, "--json").lines
    assert combined["hits"][0]["path"] == told[0]["path"]

    mood.write_text("none")
    (again,) = imgrec("ingest", "--library", library, "--json").lines
    assert again["failures"] == {"embedder_failed": tall}
    (asked,) = imgrec("ingest", "--library", library, "--retry-failed", "--json").lines
    assert (asked["retried"], asked["failures"], asked["embedded"]) == (tall, {}, tall)
    assert asked["indexes"]["fragile"]["vectors"] == 6
