"""Chunks under way, some of which fail: what becomes of the others."""

from pathlib import Path

import pytest

from imgrec.conf.settings import Settings
from imgrec.embedders.work.outcome import ChunkOutcome
from imgrec.flows.pipeline import embedding, stages
from imgrec.flows.pipeline.ingesting import ingest
from imgrec.tasks.calls import PlainCalls
from imgrec.tasks.driver import current_driver
from imgrec.tasks.executors.choosing import machine_of
from imgrec.tasks.executors.errors import JobFailedError
from imgrec.tasks.executors.local import LocalExecutor
from tests.flows.pipeline.test_ingesting import settings_of


class FailingExecutor(LocalExecutor):
    """Its first chunks fail, as many as it is told, as jobs do that somebody cancels."""

    def __init__(self, library: Path, chosen: Settings, failing: int) -> None:
        driver = current_driver()
        super().__init__(library / "chunks", driver.pool, 2, machine_of(chosen), driver.on_images)
        self.embedded: list[Path] = []
        self._failing = failing
        self.stopped = False

    def embed(self, chunk_path: Path) -> ChunkOutcome:
        if self._failing:
            self._failing -= 1
            raise JobFailedError(f"job of {chunk_path.name} ended as CANCELLED", temporary=False)
        self.embedded.append(chunk_path)
        return super().embed(chunk_path)

    def stop(self) -> None:
        self.stopped = True


def fail(chosen: Settings, failing: int, monkeypatch: pytest.MonkeyPatch) -> FailingExecutor:
    """Ingest six photos in as many chunks, some of which fail."""
    made: list[FailingExecutor] = []

    def choose(*about: object) -> FailingExecutor:
        made.append(FailingExecutor(chosen.library, chosen, failing))
        return made[0]

    with monkeypatch.context() as patch:
        patch.setattr(stages, "choose_executor", choose)
        patch.setattr(LocalExecutor, "in_flight", 1)
        with pytest.raises(JobFailedError, match=r"^job of \w+\.json ended as CANCELLED$"):
            ingest(chosen, PlainCalls(0))
    return made[0]


def test_a_job_that_fails_is_told_when_the_others_are_done(
    photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings_of(photos, library, chunk_size=1)
    assert len(fail(chosen, 2, monkeypatch).embedded) == 4
    report = ingest(chosen, PlainCalls(0))
    assert report.embedded is not None
    assert report.embedded.images == 2
    assert report.images["ok"] == 6


def test_where_many_fail_the_others_are_given_up(photos: Path, library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "FAILED_AT_MOST", 3)
    executor = fail(settings_of(photos, library, chunk_size=1), 5, monkeypatch)
    assert (executor.embedded, executor.stopped) == ([], True)
