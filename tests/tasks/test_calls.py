"""Steps called plainly: retries, what is passed on, and what runs beside the caller."""

import errno
import threading
from contextvars import ContextVar

import pytest

from imgrec.storage.errors import ImgrecError
from imgrec.tasks.calls import PlainCalls


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    waited: list[float] = []
    monkeypatch.setattr("imgrec.tasks.calls.time.sleep", waited.append)
    return waited


class Flaky:
    """A step that fails as often as it is told to."""

    __name__ = "flaky"

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self, value: int) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return value


def test_a_temporary_failure_is_tried_again_with_longer_waits(
    no_waiting: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    step = Flaky(2, OSError(errno.EIO, "Input/output error"))
    assert PlainCalls(retries=2).call(step, 7) == 7
    first, second = no_waiting
    assert 2 <= first <= 3
    assert 4 <= second <= 6
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "flaky failed for a temporary reason and is tried again"
    ] * 2


def test_the_last_failure_is_raised(no_waiting: list[float]) -> None:
    step = Flaky(3, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output"):
        PlainCalls(retries=2).call(step, 7)
    assert step.calls == 3
    assert len(no_waiting) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ImgrecError("wrong"), ValueError("ours")])
def test_what_stays_wrong_is_not_tried_again(error: Exception, no_waiting: list[float]) -> None:
    step = Flaky(1, error)
    with pytest.raises(type(error)):
        PlainCalls(retries=5).call(step, 7)
    assert (step.calls, no_waiting) == (1, [])


def test_submitted_steps_run_beside_each_other_in_the_context_of_the_caller() -> None:
    seen: ContextVar[str] = ContextVar("seen")
    together = threading.Barrier(2)

    def step(number: int) -> tuple[int, str]:
        together.wait(10)  # none returns before both run
        return number, seen.get()

    plain = PlainCalls(retries=0)
    token = seen.set("by the caller")
    promises = [plain.submit(step, number) for number in range(2)]
    seen.reset(token)
    assert [promise.result() for promise in promises] == [(0, "by the caller"), (1, "by the caller")]
