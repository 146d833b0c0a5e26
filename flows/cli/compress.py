"""`imgrec compress`: shorter vectors at the same answers."""

import json
from pathlib import Path
from typing import Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly, visible
from imgrec.flows.cli.options import chosen_of, json_option, library_option, settings_options
from imgrec.flows.cli.outcome import load_flow

_modality = click.argument("modality", metavar="SOURCE.METHOD+DIMS")
_seed = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of all draws.")


@click.group()
def compress() -> None:
    """Make vectors shorter: 64 numbers in place of 1,280, and mostly the same neighbours.

    A compressed modality is called after its source, the method, and how many numbers are left: efficientnet.pca64.
    Methods are pca, rp (random projection) and ae (an autoencoder, which needs torch and minutes).
    """


@compress.command()
@_modality
@library_option
@_seed
@click.option("--parameters", metavar="JSON", help="Settings of the autoencoder, as '{\"depth\": 0}'.  "
              "[default: the best of `tune`]")  # fmt: skip
@settings_options("device")
@json_option
@click.pass_obj
def train(
    verbose: bool, /, modality: str, library: str | None, seed: int, parameters: str | None, as_json: bool,
    **settings: str | None,
) -> None:  # fmt: skip
    """Learn an encoder from this library's vectors; the next ingest gives all photos the shorter ones.

    \b
    imgrec compress train efficientnet.pca64
    imgrec ingest
    imgrec search photo.jpg --index efficientnet.pca64
    """
    try:
        given = None if parameters is None else dict(json.loads(parameters))
    except (ValueError, TypeError):
        raise click.BadParameter(f"{parameters} is no JSON object, as '{{\"depth\": 0}}'") from None
    trained = load_flow("train_compression", verbose)(modality, library, chosen_of(settings), given, seed)
    if as_json:
        print_json(vars(trained))
        return
    click.echo(
        f"{trained.modality}: learnt from {trained.vectors:,} vectors; of {trained.held_out:,} others "
        f"{trained.recall_at_10:.1%} of 10 neighbours are kept\n"
        f"`imgrec ingest` gives all photos these vectors, of {trained.bytes} bytes each"
    )


@compress.command()
@_modality
@library_option
@json_option
def drop(modality: str, library: str | None, as_json: bool) -> None:
    """Take a compressed modality out of the library; `imgrec gc` removes its vectors and its encoder.

    \b
    imgrec compress drop efficientnet.pca64
    """
    from imgrec.embedders.modalities.compressed import encoder_setting, encoders_of
    from imgrec.search.indexes.layout import list_indexes
    from imgrec.search.names import named_modalities
    from imgrec.search.upkeep.dropping import drop_indexes
    from imgrec.storage.library import open_library
    from imgrec.storage.machine.lock import writer_lock
    from imgrec.storage.machine.os_errors import explaining

    chosen = Settings.load(library=library)
    home = open_library(chosen.library)
    if modality not in encoders_of(home.vector_settings):
        raise click.BadParameter(f"{modality} is no compressed modality of {home.root}")
    with explaining(home.root), writer_lock(home.root):
        setting = encoder_setting(modality)
        kept = {name: value for name, value in home.vector_settings.items() if name != setting}
        home = home.with_modalities(tuple(name for name in home.modalities if name != modality))
        home.with_vector_settings(kept)
    drop_indexes(home.root, [name for name in list_indexes(home.indexes_dir) if modality in named_modalities(name)])
    facts: dict[str, Any] = {"library": str(home.root), "dropped": modality}
    if as_json:
        print_json(facts)
    else:
        click.echo(f"dropped {modality}; `imgrec ingest`, then `imgrec gc`, removes its vectors")


@compress.command()
@_modality
@library_option
@_seed
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, metavar="N",
              help="Trials in all; those of an earlier call count.")  # fmt: skip
@click.option("--sampler", type=click.Choice(["tpe", "grid"]), default="tpe", show_default=True,
              help="Who chooses what is tried next.")  # fmt: skip
@settings_options("device")
@json_option
@click.pass_obj
def tune(
    verbose: bool, /, modality: str, library: str | None, seed: int, trials: int, sampler: str, as_json: bool,
    **settings: str | None,
) -> None:  # fmt: skip
    """Look for a better autoencoder; the library keeps the study, and `train` takes the best of it.

    \b
    imgrec compress tune efficientnet.ae64
    imgrec compress tune efficientnet.ae64 --trials 40     goes on
    imgrec compress train efficientnet.ae64
    """
    tuned = load_flow("tune_compression", verbose)(modality, library, chosen_of(settings), trials, sampler, seed)
    if as_json:
        print_json(vars(tuned))
        return
    settled = ", ".join(f"{name} = {value}" for name, value in tuned.best.items())
    click.echo(
        f"{tuned.modality}: {tuned.recall_at_10:.1%} of 10 neighbours are kept at {tuned.bytes} bytes, by PCA "
        f"{tuned.pca_recall_at_10:.1%} ({tuned.trials} trials, {tuned.pruned} given up early)\n{settled}\n"
        f"`imgrec compress train {tuned.modality}` learns with these"
    )


@compress.command()
@click.argument("source")
@library_option
@_seed
@click.option("--dims", default="16,32,64,128,256", show_default=True, metavar="N,N,…", help="Sizes to compare at.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.png", help="Draw it, too.")
@json_option
@click.pass_obj
def evaluate(
    verbose: bool, /, source: str, library: str | None, seed: int, dims: str, plot: Path | None, as_json: bool
) -> None:
    """Compare the methods on modality SOURCE: which share of the ten nearest each keeps, at how many bytes a vector.

    Beside PCA, random projection and the library's own compressed modalities stand FAISS's codes (PQ, OPQ, SQ, RaBitQ),
    which an index can have and a modality cannot. A fifth of the photos judge, and nothing is learnt from those.

    \b
    imgrec compress evaluate efficientnet --plot compression.png
    """
    speak_plainly(verbose)
    from imgrec.flows.pipeline.comparing import compare
    from imgrec.flows.pipeline.interrupts import cleaning_up

    try:
        sizes = sorted({int(text) for text in dims.split(",")})
    except ValueError:
        raise click.BadParameter(f"{dims}: write numbers as 32,64,128", param_hint="--dims") from None
    chosen = Settings.load(library=library)
    with cleaning_up():
        found = compare(
            chosen, source, sizes, plot, seed,
            lambda one: None if as_json else click.echo(f"{one.method}, {one.bytes_per_vector} bytes …", err=True),
        )  # fmt: skip
    if as_json:
        facts = {**vars(found), "methods": [vars(one) for one in found.methods]}
        print_json({"library": str(chosen.library), **facts, "run": found.run and found.run.run_id})
        return
    from imgrec.flows.cli.compression_table import print_methods

    print_methods(found.methods)
    click.echo(f"learnt from {found.learnt:,} vectors, judged by {found.held_out:,} others")
    if plot is not None:
        click.echo(f"drawn: {visible(str(plot))}")
