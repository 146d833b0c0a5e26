"""Real registries and folders of photos."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgrec.storage.registry.registry import Registry
from tests.storage.pictures import Photos


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open_for_writing(tmp_path / "registry.sqlite") as registry:
        yield registry


@pytest.fixture
def photos(tmp_path: Path, registry: Registry) -> Photos:
    return Photos(tmp_path / "photos", registry)
