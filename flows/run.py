"""One run of a flow that writes: the library it has open, who helps it, and what it logs."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from conf.settings import Settings
from embedders.base import EmbedderSpec
from embedders.catalogue import create_embedders
from flows.libraries import check_new_library, library_for
from flows.progress import IngestProgress, ingest_progress
from flows.report import Stages
from storage.atomic import remove_stale_temporaries
from storage.library import Library
from storage.lock import writer_lock
from storage.registry import Registry
from tasks.driver import driving


@dataclass(frozen=True)
class Run:
    """What the stages of one run share. `specs` has one entry for each modality of the library."""

    library: Library
    registry: Registry
    specs: Mapping[str, EmbedderSpec]
    chosen: Settings
    progress: IngestProgress
    stages: Stages = field(default_factory=Stages)
    started_s: float = field(default_factory=time.time)


@contextmanager
def open_run(chosen: Settings, photos_moved: bool = False, reembed: bool = False) -> Iterator[Run]:
    """Open or make the library of these settings, as its only writer, with worker processes at hand.

    Raises:
        LibraryLockedError: somebody else writes it.
    """
    check_new_library(chosen)
    with (
        writer_lock(chosen.library),
        ingest_progress() as progress,
        driving(chosen.workers, progress.on_read, progress.on_images),
    ):
        library = library_for(chosen, photos_moved, reembed)
        remove_stale_temporaries(library.root)
        embedders = create_embedders(library.modalities, library.vector_settings, library.models_dir)
        specs = {name: embedder.spec for name, embedder in embedders.items()}
        with Registry.open_for_writing(library.registry_path) as registry:
            for spec in specs.values():
                registry.register_fingerprint(spec.fingerprint, spec.name, spec.dim, spec.parameters)
            yield Run(library, registry, specs, chosen, progress)


def run_name(what: str) -> str:
    return f"{what} {datetime.now():%Y-%m-%d %H:%M:%S}"
