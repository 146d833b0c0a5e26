"""One run that writes a library: what it has open, who helps it, and how it is stopped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from imgrec.conf.settings import Settings
from imgrec.embedders.base import Embedder, EmbedderSpec
from imgrec.embedders.catalogue import create_embedders
from imgrec.flows.pipeline.interrupts import stopping_gently
from imgrec.flows.pipeline.libraries import check_device, library_for, preview_library
from imgrec.flows.pipeline.progress import IngestProgress, ingest_progress
from imgrec.flows.pipeline.report import Stages
from imgrec.search.fusion import index_modalities
from imgrec.search.indexes.publishing import reserve_indexed_ids
from imgrec.storage.library import Library, is_library, open_library
from imgrec.storage.machine.atomic import remove_stale_temporaries
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.machine.os_errors import explaining
from imgrec.storage.registry.registry import Registry
from imgrec.storage.renaming import settle_names
from imgrec.tasks.calls import Calls
from imgrec.tasks.driver import driving
from imgrec.tasks.executors.choosing import HERE, check_executor


@dataclass(frozen=True)
class Run:
    """What the stages of one run share. `embedders` has one for each modality of the library.

    `stop_if_asked` raises KeyboardInterrupt after a Ctrl-C; it is called wherever it is good to stop. `created` says
    whether this run made the library.
    """

    calls: Calls
    library: Library
    registry: Registry
    embedders: Mapping[str, Embedder]
    chosen: Settings
    progress: IngestProgress
    stop_if_asked: Callable[[], None]
    created: bool = False
    stages: Stages = field(default_factory=Stages)
    started_s: float = field(default_factory=time.time)

    @property
    def specs(self) -> dict[str, EmbedderSpec]:
        return {name: embedder.spec for name, embedder in self.embedders.items()}

    @property
    def fingerprints(self) -> dict[str, str]:
        """The fingerprint of each modality."""
        return {name: spec.fingerprint for name, spec in self.specs.items()}


@contextmanager
def open_run(
    chosen: Settings,
    calls: Calls,
    photos_moved: bool = False,
    reembed: bool = False,
    embeds: bool = False,
    indexes: Sequence[str] | None = None,
) -> Iterator[Run]:
    """Open or make the library of these settings, as its only writer, with worker processes at hand.

    What cannot work is refused before anything is made, even a lock; so is a missing device where the run `embeds`, and
    a wrong name among the `indexes` that it is to build.

    Raises:
        IndexNotFoundError: an index cannot be built of the library's modalities.
        DeviceError: the device that the library's models are to run on is not there.
        LibraryLockedError: somebody else writes it.
        MachineError: the disk is full or the like.
    """
    with explaining(chosen.library):
        planned = preview_library(chosen, photos_moved, reembed)
        for name in indexes or ():
            index_modalities(name, planned.modalities)
        check_executor(chosen.executor)
        if embeds and chosen.executor in HERE:  # nodes of a cluster have other devices than this machine
            check_device(planned, chosen.device)
    with (
        explaining(chosen.library),
        writer_lock(chosen.library),
        stopping_gently() as stop_if_asked,
        ingest_progress() as progress,
        driving(
            chosen.workers,
            _both(progress.on_read, stop_if_asked),
            progress.on_images,
            in_process=chosen.executor == "debug",
        ),
    ):
        created = not is_library(chosen.library)
        if not created:
            _settle_names(open_library(chosen.library))
        library = _settle_names(library_for(chosen, photos_moved, reembed))
        calls.begin_writing(library.uuid)
        remove_stale_temporaries(library.root, library.temporaries_rest_s)
        embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
        with Registry.open_for_writing(library.registry_path) as registry:
            reserve_indexed_ids(registry, library.indexes_dir)
            for spec in (embedder.spec for embedder in embedders.values()):
                registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
            yield Run(calls, library, registry, embedders, chosen, progress, stop_if_asked, created)


def _settle_names(library: Library) -> Library:
    """What a root is called in library.json, it is in the registry too before anything else is done."""
    if not library.renamed_roots:
        return library
    with Registry.open_for_writing(library.registry_path) as registry:
        return settle_names(library, registry)


def _both(on_read: Callable[[int, int], None], stop_if_asked: Callable[[], None]) -> Callable[[int, int], None]:
    def both(done: int, total: int) -> None:
        on_read(done, total)
        stop_if_asked()

    return both


def run_name(what: str) -> str:
    return f"{what} {datetime.now():%Y-%m-%d %H:%M:%S}"
