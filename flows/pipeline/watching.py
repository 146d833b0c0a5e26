"""Ingest again whenever photos change, by a process that stays: imports, models and what it knows are warm."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline.ingesting import ingest, ingest_nothing
from imgrec.flows.pipeline.report import RunReport
from imgrec.storage.errors import ImgrecError, LibraryLockedError
from imgrec.storage.library import Library, open_library
from imgrec.tasks.calls import PlainCalls

# Changes that follow each other this closely are one.
QUIET_S = 0.1
# A file is whole when it has not changed for so long; one that changes for longer than the last is taken as it is, and
# again when it has changed.
SETTLED_S, SETTLES_WITHIN_S = 0.4, 60.0
# How often somebody else's lock is tried, and how often the stop is looked for.
TICK_S = 2.0

logger = logging.getLogger(__name__)


def watch(chosen: Settings, on_report: Callable[[RunReport], None], stop: Event, look_every_s: float = 3_600) -> None:
    """Ingest, and again after each change in the folders of photos, until `stop` is set.

    All is looked at every `look_every_s` seconds too: network disks tell nothing of what other machines change there,
    and of very many changes at once some may go unheard. What an ingest refuses is told, and tried again then.

    Raises:
        SettingsError, LibraryNotFoundError, …: what is wrong before the first ingest.
    """
    on_report(_ingest(chosen))
    home, looked_s = open_library(chosen.library), time.monotonic()
    waiting = True  # for what changed since the first one looked, and before anybody listened
    for changed in _changes(home, stop):
        waiting = waiting or bool(changed) or time.monotonic() - looked_s >= look_every_s
        if not waiting:
            continue
        _wait_until_whole(changed, stop)
        try:
            report = _ingest(chosen, look_first=not changed)
        except LibraryLockedError as error:
            logger.info("%s; it is tried again", error)
            continue
        except (ImgrecError, OSError) as error:
            logger.warning("%s", error)
        else:
            if not report.did_nothing:
                on_report(report)
        looked_s, waiting = time.monotonic(), False


def _ingest(chosen: Settings, look_first: bool = True) -> RunReport:
    """Ingest; where something changed, to look first would be a walk of all folders for nothing."""
    return (ingest_nothing(chosen) if look_first else None) or ingest(chosen, PlainCalls(chosen.retries))


def _changes(home: Library, stop: Event) -> Iterator[list[Path]]:
    """Yield the files that changed, outside of the library itself; an empty list every other second."""
    import watchfiles

    folders = [Path(folder) for folder in home.roots.folders.values() if Path(folder).is_dir()]
    changes = watchfiles.watch(
        *folders,
        watch_filter=lambda _change, path: not Path(path).is_relative_to(home.root),
        step=round(QUIET_S * 1e3),
        debounce=round(SETTLES_WITHIN_S * 1e3),
        rust_timeout=round(TICK_S * 1e3),
        yield_on_timeout=True,
        stop_event=stop,
        ignore_permission_denied=True,
    )
    for some in changes:
        yield sorted({Path(path) for _, path in some})


def _wait_until_whole(files: Iterable[Path], stop: Event) -> None:
    """Wait until none of these files has changed for a while: they may still be being copied."""
    files, until = list(files), time.monotonic() + SETTLES_WITHIN_S
    seen = _stamps(files)
    while seen and time.monotonic() < until and not stop.wait(SETTLED_S):
        now = _stamps(files)
        if now == seen:
            break
        seen = now


def _stamps(files: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    found = {}
    for file in files:
        try:
            status = file.stat()
        except OSError:  # gone again
            continue
        if file.is_file():
            found[file] = status.st_size, status.st_mtime_ns
    return found
