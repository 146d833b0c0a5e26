"""Learn an encoder from a library's vectors, and make its vectors a modality of the library."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.embedders.compression.methods import fit, parse_variant
from imgrec.embedders.errors import TooFewImagesError
from imgrec.embedders.modalities.compressed import encoder_setting
from imgrec.flows.skipping import skipped_if_locked
from imgrec.search.evaluation.compression import recall_at_10
from imgrec.storage.library import open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.machine.os_errors import explaining
from imgrec.tasks.compression import learning_rows, remembering


@dataclass(frozen=True)
class TrainedEncoder:
    """What was learnt: from how many vectors, and which share of 10 neighbours held-out vectors keep."""

    modality: str
    encoder: str
    vectors: int
    held_out: int
    recall_at_10: float
    bytes: int


@flow(name="train-compression", flow_run_name="train {modality}")
@skipped_if_locked
def train_compression(
    modality: str,
    library: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    parameters: dict[str, Any] | None = None,
    seed: int = 0,
) -> TrainedEncoder:
    """Learn the encoder of a compressed modality, as efficientnet.pca64, which the next ingest gives all photos.

    Args:
        modality: SOURCE.METHOD and the number of dimensions; the source is one of the library's.
        library: folder of the library.
        settings: any other setting by name, as in imgrec.toml.
        parameters: settings of the autoencoder by name; default: the best of a study of this modality, if there is one.
        seed: of what is drawn, and of the autoencoder.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    home = open_library(chosen.library)
    _, method, dim = parse_variant(modality)
    with explaining(home.root), writer_lock(home.root), learning_rows(home, modality, seed) as found:
        if len(found.learnt) < 2 * dim:  # and an autoencoder holds some of them out
            raise TooFewImagesError(
                f"{len(found.learnt):,} vectors are too few to learn {dim} dimensions from: {2 * dim:,} are needed"
            )
        device = "cpu" if chosen.device == "auto" else chosen.device
        best = parameters if parameters is not None else remembering(home, modality)
        encoder = fit(method, found.learnt, dim, {"source": found.fingerprint}, seed, best, device)
        recall = recall_at_10(found.held_out, encoder.encode(found.held_out))
        encoder.save(home.models_dir)
        home = home.with_vector_settings({**home.vector_settings, encoder_setting(modality): encoder.digest})
        home.with_modalities(tuple(dict.fromkeys([*home.modalities, modality])))
        return TrainedEncoder(modality, encoder.digest, len(found.learnt), len(found.held_out), recall, 4 * dim)
