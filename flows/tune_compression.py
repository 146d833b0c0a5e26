"""Look for the autoencoder that keeps most neighbours at so many bytes."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from prefect import flow

from imgrec.conf.compression import FIXED, SPACE
from imgrec.conf.settings import Settings
from imgrec.embedders.compression.methods import fit, parse_variant
from imgrec.embedders.errors import EmbedderParameterError, MissingExtraError, TooFewImagesError
from imgrec.embedders.extras import missing_of
from imgrec.flows.pipeline.interrupts import stopping_gently
from imgrec.flows.skipping import skipped_if_locked
from imgrec.search.evaluation.compression import neighbours, recall_at_10
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.machine.os_errors import explaining
from imgrec.tasks.compression import LearningRows, learning_rows, remember, study_path
from imgrec.tasks.tracking import RunRecord, track

if TYPE_CHECKING:
    import optuna

EXPERIMENT = "imgrec-compress"
# Of fewer, ten neighbours are most of them.
HELD_OUT_AT_LEAST = 20


@dataclass(frozen=True)
class TunedCompression:
    """The best of a study: recall@10 of neighbours among held-out vectors, beside PCA's at the same bytes."""

    modality: str
    trials: int
    pruned: int
    best: Mapping[str, Any]
    recall_at_10: float
    pca_recall_at_10: float
    bytes: int


@flow(name="tune-compression", flow_run_name="tune {modality}")
@skipped_if_locked
def tune_compression(
    modality: str,
    library: Path | str | None = None,
    settings: dict[str, Any] | None = None,
    trials: int = 20,
    sampler: Literal["tpe", "grid"] = "tpe",
    seed: int = 0,
) -> TunedCompression:
    """Try settings of the autoencoder; `trials` in all, those of earlier calls among them, so that it goes on.

    Args:
        modality: SOURCE.ae and the number of dimensions, as efficientnet.ae64.
        library: folder of the library, which keeps the study.
        settings: any other setting by name, as in imgrec.toml.
        trials: how many; the grid ends by itself when it is through.
        sampler: `tpe` (Bergstra et al. 2011) or `grid`.
        seed: of how vectors are parted, of the sampler and of the autoencoders.
    """
    if missing := missing_of(["optuna", "torch"]):
        raise MissingExtraError(
            f"tuning needs {', '.join(missing)}, not installed here: `pip install 'image-recommender[compress]'`"
        )
    chosen = Settings.load(library=library, **(settings or {}))
    home = open_library(chosen.library)
    _, method, dim = parse_variant(modality)
    if method != "ae":
        raise EmbedderParameterError(
            f"{modality}: only autoencoders have settings to look for, as efficientnet.ae{dim}"
        )
    device = "cpu" if chosen.device == "auto" else chosen.device
    with (
        explaining(home.root), writer_lock(home.root), stopping_gently() as stop_if_asked,
        learning_rows(home, modality, seed) as found,
    ):  # fmt: skip
        if len(found.held_out) < HELD_OUT_AT_LEAST or len(found.learnt) < max(2 * dim, HELD_OUT_AT_LEAST):
            raise TooFewImagesError(
                f"{len(found.learnt):,} vectors to learn from and {len(found.held_out):,} others to compare by are "
                f"too few: {max(2 * dim, HELD_OUT_AT_LEAST)} and {HELD_OUT_AT_LEAST} are needed"
            )
        known = neighbours(found.held_out)
        pca = fit("pca", found.learnt, dim, {}).encode(found.held_out)
        baseline = recall_at_10(found.held_out, pca, known=known)
        study = _open_study(home, modality, sampler, seed)
        started, before = time.time(), len(_finished(study))
        while len(_finished(study)) < trials:
            stop_if_asked()
            if sampler == "grid":
                if (left := _untried(study)) is None:
                    break
                study.enqueue_trial(left)
            trial = study.ask()
            _run(study, trial, found, dim, seed, device)
            click.echo(f"trial {trial.number}: best so far {_best(study):.4f}, PCA {baseline:.4f}", err=True)
        best = {**FIXED, **study.best_params}
        remember(home, modality, best)
        _log(home, modality, study, started, before, baseline)
        pruned = sum(trial.state.name == "PRUNED" for trial in study.trials)
        return TunedCompression(modality, len(_finished(study)), pruned, best, study.best_value, baseline, 4 * dim)


def _open_study(library: Library, modality: str, sampler: str, seed: int) -> "optuna.Study":
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        study_name=f"{modality} {sampler} {seed}",
        storage=f"sqlite:///{study_path(library)}",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )


def _run(study: "optuna.Study", trial: "optuna.Trial", found: LearningRows, dim: int, seed: int, device: str) -> None:
    """Learn with what the trial proposes; it is given up where half of the others were better at the same epoch."""
    from optuna.trial import TrialState

    proposed = {name: trial.suggest_categorical(name, list(choices)) for name, choices in SPACE.items()}
    gives_up = False

    def on_epoch(epoch: int, recall: float) -> bool:
        nonlocal gives_up
        trial.report(recall, epoch)
        gives_up = trial.should_prune()
        return gives_up

    try:
        encoder = fit("ae", found.learnt, dim, {}, seed, {**FIXED, **proposed}, device, on_epoch)
    except BaseException:  # also Ctrl-C: the study goes on without it
        study.tell(trial, state=TrialState.FAIL)
        raise
    if gives_up:
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, recall_at_10(found.held_out, encoder.encode(found.held_out)))


def _finished(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _untried(study: "optuna.Study") -> dict[str, Any] | None:
    """The first place of the grid that no trial was at; Optuna's own grid ends a study only in a loop of its own."""
    tried = [trial.params for trial in _finished(study)]
    places = (dict(zip(SPACE, choices, strict=True)) for choices in product(*SPACE.values()))
    return next((place for place in places if place not in tried), None)


def _best(study: "optuna.Study") -> float:
    values = [trial.value for trial in study.trials if trial.state.name == "COMPLETE" and trial.value is not None]
    return max(values, default=float("nan"))


def _log(
    library: Library, modality: str, study: "optuna.Study", started_s: float, before: int, baseline: float
) -> None:
    """The study is a run of MLflow, and each trial of this call one inside of it."""
    metrics = {"recall_at_10": study.best_value, "pca_recall_at_10": baseline, "trials": len(_finished(study))}
    parent = track(library, RunRecord(EXPERIMENT, f"tune {modality}", started_s, study.best_params, metrics))
    for trial in _finished(study)[before:]:
        values = {} if trial.value is None else {"recall_at_10": trial.value}
        ended = (trial.datetime_complete or trial.datetime_start).timestamp() if trial.datetime_start else started_s
        begun = trial.datetime_start.timestamp() if trial.datetime_start else started_s
        name = f"trial {trial.number} {trial.state.name.lower()}"
        record = RunRecord(
            EXPERIMENT, name, begun, trial.params, values, ended, parent_run_id=parent.run_id if parent else None
        )
        track(library, record)
