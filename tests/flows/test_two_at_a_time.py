"""One writer, any number of readers."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imgrec.embedders.catalogue import create_embedders
from imgrec.flows.cli.status import read_status
from imgrec.search import Searcher
from imgrec.storage.library import open_library
from imgrec.storage.queries import run_sql
from tests.flows.album import MODALITIES, VECTOR_SETTINGS, Album, check
from tests.flows.conftest import Imgrec
from tests.flows.launcher import Launcher, wait_until_gone

OPTIONS = [option for modality in MODALITIES for option in ("--modality", modality)]
# So that there is something to merge, to add and to publish all the time.
BUSY = {"imgrec.storage.mirror.SPARE_SHARDS": 4, "imgrec.search.indexes.adding.MERGE_FACTOR": 2}


@pytest.fixture
def album(tmp_path: Path) -> Album:
    return Album(tmp_path / "photos", seed=3)


@pytest.mark.usefixtures("through_prefect")
def test_a_second_writer_is_refused_and_told_who_holds_the_lock(
    launcher: Launcher, album: Album, library: Path, imgrec: Imgrec
) -> None:
    assert launcher.run("ingest", album.root, "--library", library, library=library).code == 0
    album.change()
    first = launcher.start("ingest", "--library", library, "--chunk-size", 1, "--json", library=library)
    while not (library / "lock.json").exists():
        time.sleep(0.005)
    os.kill(first.pid, signal.SIGSTOP)
    for command in (
        *(["ingest"], ["scan"], ["embed"], ["index", "build", "--rebuild"], ["train", "sift"]),
        *(["reembed", "--bins", "4x4x4"], ["gc", "--delete"]),
    ):
        refused = imgrec(*command, "--library", library)
        assert (refused.code, refused.out) == (1, "")
        (line,) = refused.err.splitlines()
        assert f"process {first.pid} on {socket.gethostname()} since 20" in line
        assert f"(`imgrec ingest --library {library} --chunk-size 1 --json`)" in line
    os.kill(first.pid, signal.SIGCONT)
    assert first.wait().code == 0
    wait_until_gone(first.pid)
    assert imgrec("ingest", "--library", library).code == 0  # a holder that ended is in nobody's way


def test_readers_go_on_undisturbed_through_ingests(launcher: Launcher, album: Album, library: Path) -> None:
    assert launcher.run("ingest", album.root, "--library", library, *OPTIONS, library=library).code == 0
    kept = sorted(album.files)[0]
    with Searcher(library) as searcher:
        (first,) = searcher.search([album.root / kept])[0].hits[:1]
        fingerprints = {
            name: embedder.spec.fingerprint for name, embedder in create_embedders(MODALITIES, VECTOR_SETTINGS).items()
        }

        def search_on() -> None:
            (hit,) = searcher.search([f"id:{first.id}"], top_k=1)[0].hits
            assert hit.path == first.path
            assert hit.score == pytest.approx(1, abs=1e-6)

        def search_anew() -> None:
            with Searcher(library) as fresh:
                (hit,) = fresh.search([album.root / kept], top_k=1)[0].hits
            assert hit.id == first.id

        def look() -> None:
            status = read_status(library)
            assert status["images"]["ok"] >= 15
            assert {"vectors", "bytes"} <= status["indexes"]["combo_color_sift"].keys()

        def ask() -> None:
            home = open_library(library)
            _, rows = run_sql(home, "SELECT count(*) FROM color WHERE len(vector) = 512", fingerprints)
            assert int(str(rows[0][0])) >= 15

        readers = [_Reader(read) for read in (search_on, search_anew, look, ask)]
        for _ in range(2):
            album.change(keep=kept)
            ended = launcher.run(
                "ingest", "--library", library, "--chunk-size", 1, "--json", library=library, constants=BUSY
            )
            assert ended.code == 0, ended
        counts = [reader.stop() for reader in readers]
        assert min(counts) >= 10
    wait_until_gone(ended.pid)
    check(library, album, {})


class _Reader:
    """Reads again and again in a thread; the first failure is raised by `stop`, which else says how often it read."""

    def __init__(self, read: Callable[[], None]) -> None:
        self._read = read
        self._count = 0
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop)
        self._thread.start()

    def stop(self) -> int:
        self._ended.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._count

    def _loop(self) -> None:
        try:
            while not self._ended.is_set():
                self._read()
                self._count += 1
                time.sleep(0.03)
        except BaseException as error:  # noqa: BLE001 - raised by `stop`, in the test's thread
            self._failure = error
