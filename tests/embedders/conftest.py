"""What is generated once for all tests of embedders."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedders.dreamsim_types import BACKBONES
from tests.embedders.dreamsim_files import write_cache


@pytest.fixture(scope="session")
def dreamsim_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that DreamSim could have filled with its two smallest types, which have the same backbone here."""
    folder = tmp_path_factory.mktemp("dreamsim")
    write_cache(folder, "open_clip_vitb32")
    os.link(folder / BACKBONES["open_clip_vitb32"], folder / BACKBONES["clip_vitb32"])
    write_cache(folder, "clip_vitb32")
    yield folder
    shutil.rmtree(folder)
