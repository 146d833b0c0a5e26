"""SIGKILL at random moments of real ingests: nothing is lost, and nothing is done twice."""

import os
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from tests.flows.album import MODALITIES, Album, check, to_embed
from tests.flows.launcher import OWN_MLFLOW, Ended, Kill, Launcher, open_launcher, wait_until_gone

# So that a small library merges shards, and adds segments to its indexes instead of building them anew.
SMALL = {"imgrec.storage.mirror.SPARE_SHARDS": 4, "imgrec.search.indexes.adding.MERGE_FACTOR": 2}
# Worker processes have nothing to do after this share of an ingest's steps.
WORKERS_UNTIL = 0.3
# In the long run of them; CI, which is in a hurry, takes fewer.
KILLS = int(os.environ.get("KILLS", "100"))
# What a library must hold is computed by embedders that two threads may not share.
ONE_AT_A_TIME = threading.Lock()


class Life:
    """A library through changes of its album and kills of its ingests."""

    def __init__(self, launcher: Launcher, home: Path, seed: int) -> None:
        self.launcher = launcher
        self.library = home / "library"
        self.album = Album(home / "photos", seed)
        self.random = Random(seed)
        self.steps = 150  # of the first ingest, about; then of the one before
        self.ids: dict[int, bytes] = {}
        self.struck: list[str] = []

    def ingest(self, kill: Kill | None = None) -> Ended:
        chosen = [option for modality in MODALITIES for option in ("--modality", modality)]
        chunk_size = self.random.choice([2, 3, 5])
        ended = self.launcher.run(
            "ingest", self.album.root, "--library", self.library, *chosen, "--chunk-size", chunk_size, "--json",
            library=self.library, kill=kill, constants=SMALL, environment=OWN_MLFLOW,
        )  # fmt: skip
        wait_until_gone(ended.pid)
        return ended

    def kill_at(self, moment: float) -> None:
        """Kill an ingest after this share of its steps; the next one completes the library as if nothing had been."""
        while (ended := self.ingest(self._kill(moment))).struck is None:  # there was less to do than the last time
            self.steps = len(ended.steps)
            self.album.change()
        steps = len(ended.steps)
        self.struck.append(ended.struck)
        if ended.code:
            assert ended.code == -signal.SIGKILL, ended
            if self.random.random() < 0.5:
                self.album.add(1)
            with ONE_AT_A_TIME:
                computed = to_embed(self.library, self.album)
            ended = self.ingest()
            assert ended.report["embedded"] == len(computed)
        assert ended.code == 0, ended
        with ONE_AT_A_TIME:
            check(self.library, self.album, self.ids)
        self.steps = max(steps, len(ended.steps))
        self.album.change()

    def _kill(self, moment: float) -> Kill:
        delay_s = self.random.choice([0, self.random.uniform(0, 0.03), self.random.uniform(0, 0.3)])
        victims = ["driver", "group", "worker"][: 3 if moment < WORKERS_UNTIL else 2]
        return Kill(1 + int(moment * self.steps), delay_s, self.random.choice(victims))


def live(life: Life, kills: int) -> None:
    """One kill in each of `kills` equal parts of an ingest, in random order."""
    moments = [(part + life.random.random()) / kills for part in range(kills)]
    for moment in life.random.sample(moments, kills):
        life.kill_at(moment)


def test_ten_kills_lose_nothing(launcher: Launcher, tmp_path: Path) -> None:
    live(Life(launcher, tmp_path, seed=1), kills=10)


@pytest.mark.slow
def test_many_kills_lose_nothing(tmp_path: Path, server_environment: dict[str, str]) -> None:
    """In four libraries, two at a time, since an ingest waits a lot; one of them through Prefect."""

    def live_once(seed: int) -> list[str]:
        home = tmp_path / str(seed)
        home.mkdir()
        with open_launcher(home / "launcher", server_environment if seed == 2 else os.environ) as launcher:
            life = Life(launcher, home, seed)
            live(life, kills=KILLS // 4)
        return life.struck

    with ThreadPoolExecutor(2) as two:
        struck = "\n".join(step for life in two.map(live_once, range(2, 6)) for step in life)
    places = ("/registry.sqlite", "/chunks", "/shards", "/segments", "/versions", r"/indexes/\w+/\.tmp", "/mlflow.db")
    # Where exactly they fall depends on the machine.
    assert sum(bool(re.search(place, struck)) for place in places) >= min(5, KILLS // 10), struck
