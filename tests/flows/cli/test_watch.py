"""`imgrec watch` as a process: what changes is found a moment later, and nothing is done for nothing."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from imgrec.flows.pipeline import watching
from imgrec.search import Searcher
from imgrec.storage.machine.lock import writer_lock
from tests.plain import ingest

IMGREC = Path(sys.executable).with_name("imgrec")
WITHIN_S = 60.0
IDLE_S = 4.0  # two ticks


class Watching:
    def __init__(self, *arguments: object) -> None:
        command = [str(IMGREC), "watch", *map(str, arguments), "--json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: SimpleQueue[str] = SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def next(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._lines.get(timeout=WITHIN_S))
        except Empty:
            self.process.kill()
            raise AssertionError(f"nothing was told: {self.process.communicate()}") from None
        return found

    def says_nothing(self) -> bool:
        time.sleep(IDLE_S)
        return self._lines.empty()

    def falls_silent(self) -> bool:
        """Whether it has no more to say in the end: files this new are read once more."""
        for _ in range(4):
            if self.says_nothing():
                return True
            while not self._lines.empty():
                self._lines.get()
        return False

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@pytest.fixture
def watched(photos: Path, library: Path) -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(*arguments: object) -> Watching:
        started.append(Watching(photos, "--library", library, *arguments))
        return started[-1]

    ingest(photos, library, ["color"])
    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def hits(library: Path) -> list[str]:
    with Searcher(library) as searcher:
        return sorted(hit.path for hit in searcher.search(["id:2"])[0].hits)


def test_what_comes_goes_and_moves_is_found(watched: Callable[..., Watching], photos: Path, library: Path) -> None:
    watching = watched()
    assert watching.next()["images"]["ok"] == 6
    first, second, *_ = sorted(photos.iterdir())
    (photos / "trip").mkdir()
    shutil.copy(first, photos / "trip" / "again.png")
    assert watching.next()["images"]["ok"] == 7
    assert "trip/again.png" in hits(library)
    first.unlink()
    watching.next()
    second.rename(photos / "trip" / second.name)
    while f"trip/{second.name}" not in hits(library):
        watching.next()
    assert first.name not in hits(library)
    assert watching.falls_silent()
    watching.process.send_signal(signal.SIGTERM)
    assert watching.process.wait(30) == 0


def test_its_own_library_inside_of_the_photos_is_no_change(photos: Path) -> None:
    ingest(photos, photos / ".library", ["color"])
    watching = Watching(photos, "--library", photos / ".library")
    try:
        watching.next()
        assert watching.falls_silent()
    finally:
        watching.process.send_signal(signal.SIGINT)
        _, told = watching.process.communicate(timeout=30)
    assert (watching.process.returncode, told) == (0, "")


def test_a_library_that_another_writes_is_waited_for(
    watched: Callable[..., Watching], photos: Path, library: Path
) -> None:
    watching = watched()
    watching.next()
    assert watching.falls_silent()
    with writer_lock(library):
        shutil.copy(min(photos.iterdir()), photos / "later.png")
        assert watching.says_nothing()
    assert watching.next()["images"]["ok"] == 7


def test_all_is_looked_at_from_time_to_time(watched: Callable[..., Watching], photos: Path, tmp_path: Path) -> None:
    """As where a network disk tells nothing: here another folder takes the place of the one that is listened to."""
    watching = watched("--look-every", 1)
    watching.next()
    shutil.copytree(photos.rename(tmp_path / "elsewhere"), photos)
    time.sleep(IDLE_S)
    shutil.copy(min(photos.iterdir()), photos / "unheard.png")
    while watching.next()["images"]["ok"] < 7:
        pass


def test_a_file_that_grows_is_waited_for(tmp_path: Path) -> None:
    file, stop = tmp_path / "slow.jpg", threading.Event()
    file.write_bytes(b"")

    def grow() -> None:
        for _ in range(8):
            time.sleep(watching.SETTLED_S / 2)
            with file.open("ab") as open_file:
                open_file.write(b"more")

    growing = threading.Thread(target=grow)
    growing.start()
    watching._wait_until_whole([file, tmp_path / "gone.jpg", tmp_path], stop)
    assert not growing.is_alive() or file.stat().st_size == 32
    growing.join()
