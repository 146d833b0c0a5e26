"""Learn a library's own SIFT codebook."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.embedders.errors import TooFewImagesError
from imgrec.embedders.modalities.sift_codebook import codebook_path
from imgrec.embedders.modalities.sift_training import describe_photos, train_codebook
from imgrec.flows.skipping import skipped_if_locked
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.machine.os_errors import explaining
from imgrec.storage.machine.pool import map_batches
from imgrec.storage.registry.pending import sample_contents
from imgrec.storage.registry.registry import Registry
from imgrec.tasks.driver import driving

# Fewer photos than these make a codebook that knows the photos rather than their patterns.
MIN_PHOTOS = 1_000
MAX_PHOTOS = 5_000
PHOTOS_PER_PART = 16


@dataclass(frozen=True)
class TrainedSift:
    """The digest of the model, which names it, and how many photos with keypoints it was learnt from."""

    model: str
    photos: int


@flow(name="train-sift", flow_run_name="train sift")
@skipped_if_locked
def train_sift(library: Path | str | None = None, settings: dict[str, Any] | None = None) -> TrainedSift:
    """Learn a codebook from up to 5,000 of a library's photos, and make it the library's.

    The next ingest gives all photos new sift vectors; the old ones serve until those are complete.

    Args:
        library: folder of the library.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    home = open_library(chosen.library)
    with (
        explaining(home.root),
        writer_lock(home.root),
        driving(chosen.workers) as driver,
    ):
        with Registry.open_for_reading(home.registry_path) as registry:
            photos = sample_contents(registry, MAX_PHOTOS)
        _check_enough(len(photos))
        limits = dict(home.vector_settings), chosen.max_megapixels, chosen.decode_timeout_s
        work = partial(describe_photos, home.roots, *limits)
        parts = [photos[start : start + PHOTOS_PER_PART] for start in range(0, len(photos), PHOTOS_PER_PART)]
        described = [
            found for part in map_batches(driver.pool, work, parts, 16, lambda photo, death: []) for found in part
        ]
        _check_enough(len(described))
        codebook = train_codebook(described)
        codebook.save(codebook_path(home.models_dir, codebook.digest))
        home.with_vector_settings({**home.vector_settings, "sift_codebook": codebook.digest})
    return TrainedSift(codebook.digest, len(described))


def _check_enough(photos: int) -> None:
    if photos < MIN_PHOTOS:
        raise TooFewImagesError(
            f"{photos:,} photos with keypoints are too few to learn a codebook from: {MIN_PHOTOS:,} are needed, or it "
            "knows these photos rather than their patterns; the packaged codebook serves without training"
        )
