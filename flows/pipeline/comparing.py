"""Compare the ways to make a modality's vectors shorter, on vectors that none of them learnt from."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgrec.conf.settings import Settings
from imgrec.embedders.compression.encoder import load_encoder
from imgrec.embedders.errors import TooFewImagesError
from imgrec.embedders.modalities.compressed import encoders_of
from imgrec.search.evaluation.compression_methods import MethodQuality, compare_methods
from imgrec.search.evaluation.compression_plot import draw_methods
from imgrec.storage.library import open_library
from imgrec.tasks.compression import learning_rows
from imgrec.tasks.tracking import RunRecord, TrackedRun, track

EXPERIMENT = "imgrec-compress"
PLOT = "recall-against-bytes.png"
# Neighbours among fewer say nothing of those in the library; product quantisation needs 256 to learn from.
MIN_HELD_OUT, MIN_LEARNT = 50, 256


@dataclass(frozen=True)
class Comparison:
    """What was found, of how many vectors, and where MLflow has it."""

    source: str
    learnt: int
    held_out: int
    methods: Sequence[MethodQuality]
    run: TrackedRun | None


def compare(
    chosen: Settings,
    source: str,
    dims: Sequence[int],
    plot: Path | None = None,
    seed: int = 0,
    on_method: Callable[[MethodQuality], None] = lambda found: None,
) -> Comparison:
    """Measure all methods at these dimensions, and the library's own encoders of this modality.

    Raises:
        EmbedderParameterError: the library has no such modality.
        TooFewImagesError: it has too few vectors.
    """
    started_s = time.time()
    home = open_library(chosen.library)
    digests = encoders_of(home.vector_settings)
    encoders = {
        name: load_encoder(home.models_dir, digest)
        for name, digest in digests.items()
        if name.partition(".")[0] == source
    }
    with learning_rows(home, f"{source}.pca1", seed) as rows:
        if len(rows.held_out) < MIN_HELD_OUT or len(rows.learnt) < MIN_LEARNT:
            raise TooFewImagesError(
                f"{len(rows.learnt) + len(rows.held_out):,} vectors of {source} are too few to learn from and to "
                f"judge by: some {2 * MIN_LEARNT:,} are needed"
            )
        methods = []
        for found in compare_methods(rows.learnt, rows.held_out, dims, encoders):
            methods.append(found)
            on_method(found)
        counts = len(rows.learnt), len(rows.held_out)
        drawn = draw_methods(methods, source, rows.held_out.shape[1])
    if plot is not None:
        plot.write_bytes(drawn)
    metrics = {f"{one.method} {one.bytes_per_vector} bytes".replace(",", ""): one.recall for one in methods}
    facts = {"source": source, "learnt": counts[0], "held_out": counts[1]}
    record = RunRecord(EXPERIMENT, f"compare {source}", started_s, facts, metrics, artifacts={PLOT: drawn})
    return Comparison(source, *counts, methods, track(home, record))
