"""What is generated once for all tests of embedders."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError

import pytest

from imgrec.embedders.models.dreamsim_types import BACKBONES, TYPES
from imgrec.embedders.work import forward
from tests.embedders.dreamsim_files import NARROW, narrow, write_cache, write_hub


@pytest.fixture(autouse=True)
def nothing_is_known_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a device turned out to hold is remembered by the process."""
    monkeypatch.setattr(forward, "_held", {})


@pytest.fixture(scope="session")
def narrow_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that DreamSim could have filled with all of its types, were they narrower; both CLIPs are the same."""
    folder = tmp_path_factory.mktemp("dreamsim")
    write_cache(folder, "open_clip_vitb32", NARROW)
    os.link(folder / BACKBONES["open_clip_vitb32"], folder / BACKBONES["clip_vitb32"])
    for kind in TYPES:
        write_cache(folder, kind, NARROW)
    write_hub(folder, NARROW)
    return folder


@pytest.fixture(scope="module")
def narrow_dreamsim() -> Iterator[None]:
    """DreamSim's library, of which all networks are so narrow."""
    with pytest.MonkeyPatch.context() as patched:
        narrow(patched)
        yield


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, as torch.hub notices it, and its directory back where it was, which DreamSim's library changes."""
    import torch

    def refuse(*_: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
