"""The README's embedder of another package, installed as one, from photos to hits."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgrec.embedders import catalogue
from imgrec.embedders.catalogue import create_embedder
from imgrec.embedders.errors import DuplicateEmbedderError, EmbedderParameterError, UnknownEmbedderError
from tests.embedders.contract import make_pictures
from tests.flows.conftest import Imgrec

README = (Path(__file__).parents[2] / "README.md").read_text()


def install(site: Path, name: str) -> None:
    """Put what the README shows where pip would put it: a module, and a package's metadata with its entry point."""
    (code,) = re.findall(r"```python\n# layout\.py\n(.*?)```", README, re.DOTALL)
    (entry_point,) = re.findall(r'\[project\.entry-points\."imgrec\.embedders"\]\nlayout = "(.*?)"', README)
    site.mkdir()
    (site / "layout.py").write_text(code)
    info = site / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[imgrec.embedders]\n{name} = {entry_point}\n")


@pytest.fixture(autouse=True)
def forget_what_is_installed() -> Iterator[None]:
    catalogue._installed.cache_clear()
    yield
    catalogue._installed.cache_clear()


def test_an_embedder_of_another_package_goes_the_whole_way(
    imgrec: Imgrec, photos: Path, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownEmbedderError):
        create_embedder("layout", {"decode_min_side": 448})
    install(tmp_path / "site", "layout")
    catalogue._installed.cache_clear()
    monkeypatch.syspath_prepend(tmp_path / "site")
    vectors = create_embedder("layout", {"decode_min_side": 448}).embed(make_pictures())
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, rtol=0, atol=1e-6)

    (report,) = imgrec("ingest", photos, "--library", library, "--modality", "layout", "--json").lines

    assert report["modalities"] == ["layout"]
    assert report["indexes"]["layout"]["vectors"] == 6
    (answer,) = imgrec("search", photos / "cell.png", "--library", library, "--index", "layout", "--json").lines
    assert answer["hits"][0]["path"] == "cell.png"

    monkeypatch.undo()  # the package is uninstalled
    catalogue._installed.cache_clear()
    for command, code in (("status", 1), ("ingest", 1), ("ingest --modality layout", 2), ("embed --modality smell", 2)):
        refused = imgrec(*command.split(), "--library", library)
        assert refused.code == code
        assert re.search(r"no modality '\w+': there are color, .*; if another package brought it, install", refused.err)


def test_an_entry_point_that_is_not_what_it_says_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "arrangement")
    monkeypatch.syspath_prepend(tmp_path / "site")
    catalogue._installed.cache_clear()
    with pytest.raises(EmbedderParameterError, match="the embedder of arrangement calls itself layout: its spec and"):
        create_embedder("arrangement", {"decode_min_side": 448})
    (tmp_path / "site" / "layout.py").unlink()
    sys.modules.pop("layout", None)
    with pytest.raises(EmbedderParameterError, match=r"arrangement of their-package cannot be imported .*No module"):
        create_embedder("arrangement", {"decode_min_side": 448})


def test_two_embedders_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", "color")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(DuplicateEmbedderError, match="their-package brings an embedder 'color', and there is one"):
        create_embedder("sift", {"decode_min_side": 448})
