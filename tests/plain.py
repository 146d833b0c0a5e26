"""The pipeline in this process and without Prefect, for tests that are not about who runs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imgrec.conf.settings import Settings
from imgrec.flows.pipeline import ingesting
from imgrec.flows.pipeline.report import RunReport
from imgrec.tasks.calls import PlainCalls


def ingest(
    photos: Path | None = None,
    library: Path | None = None,
    modalities: Sequence[str] | None = None,
    indexes: Sequence[str] | None = None,
    **settings: Any,
) -> RunReport:
    """Make a library of a folder of photos, or bring it up to date."""
    chosen = Settings.load(images_root=photos, library=library, modalities=modalities, indexes=indexes, **settings)
    return ingesting.ingest(chosen, PlainCalls(chosen.retries))


def scan(photos: Path | None = None, library: Path | None = None) -> RunReport:
    chosen = Settings.load(images_root=photos, library=library)
    return ingesting.scan(chosen, PlainCalls(chosen.retries))


def embed(library: Path, modalities: Sequence[str] | None = None) -> RunReport:
    chosen = Settings.load(library=library, modalities=modalities)
    return ingesting.embed(chosen, PlainCalls(chosen.retries), modalities=modalities)


def build(library: Path, indexes: Sequence[str] | None = None, rebuild: bool = False, **settings: Any) -> RunReport:
    chosen = Settings.load(library=library, indexes=indexes, **settings)
    return ingesting.build(chosen, PlainCalls(chosen.retries), rebuild=rebuild)
