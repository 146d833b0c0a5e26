"""The bar in the terminal."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from imgrec.flows.pipeline.progress import COLUMNS, IngestProgress


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def shown(bar: Progress) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=120).print(bar.get_renderable())
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("total", [80, 800])
def test_a_rate_counts_from_the_start_of_its_stage(total: int) -> None:
    clock = Clock()
    bar = Progress(*COLUMNS, get_time=clock)
    progress = IngestProgress(bar)
    clock.seconds += 100
    progress.expect(total)
    assert shown(bar)[0].endswith(f"0/{total} -:--:--")
    for seconds in (0.4, 0.1):  # parts that come close together say little of how fast they were made
        clock.seconds += seconds
        progress.on_images(40)
    left = {80: "0:00:00", 800: "0:00:05"}[total]  # 720 are left
    assert shown(bar)[0].endswith(f"80/{total} 160 images/s {left}")
    clock.seconds += 0.5
    assert shown(bar)[0].endswith("160 images/s 0:00:00" if total == 80 else "80 images/s 0:00:09")


def test_files_that_are_read_have_a_rate_too() -> None:
    clock = Clock()
    bar = Progress(*COLUMNS, get_time=clock)
    progress = IngestProgress(bar)
    clock.seconds += 4
    progress.on_read(1_000, 10_000)
    (line,) = shown(bar)
    assert line.startswith("reading new files ")
    assert line.endswith(" 250 images/s 0:00:36")
