"""The models that learned embedders need: `imgrec models list`, `fetch`, `check`, `add`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imgrec.conf.settings import Settings
from imgrec.embedders.errors import ModelFileError
from imgrec.flows.cli.console import complain, print_json, speak_plainly, visible
from imgrec.flows.cli.exit_codes import FAILED
from imgrec.flows.cli.options import json_option, settings_options
from imgrec.flows.pipeline.interrupts import cleaning_up

if TYPE_CHECKING:
    from imgrec.embedders.models.sources import FileProgress
    from imgrec.embedders.models.store import StoredModel


@click.group()
def models() -> None:
    """Models that libraries share: what is there, and how to get more.

    `efficientnet` needs none of these: its weights come with image-recommender.
    """


@models.command("list")
@settings_options("models_root")
@json_option
def list_(models_root: str | None, as_json: bool) -> None:
    """List the models that are there: size, licence, SHA-256."""
    from imgrec.embedders.models.packaged import NAME
    from imgrec.embedders.models.store import model_names

    root = Settings.load(models_root=models_root).models_root
    found, damaged = [], False
    for name in (*model_names(root), NAME):
        try:
            found.append(_find(root, name))
        except ModelFileError as error:
            complain(str(error))
            damaged = True
    if as_json:
        for model in found:
            print_json(_as_json(model))
    else:
        from imgrec.flows.cli.tables import print_models

        print_models(root, found)
    if damaged:
        raise SystemExit(FAILED)


@models.command()
@click.argument("name", required=False)
@click.option("--source", type=click.Choice(["hub", "openai"]), default="hub", show_default=True,
              help="The Hugging Face Hub, or OpenAI's own server for OpenAI's models.")  # fmt: skip
@settings_options("models_root")
@json_option
@click.pass_obj
def fetch(verbose: bool, /, name: str | None, source: str, models_root: str | None, as_json: bool) -> None:
    """Fetch a model, verified, for machines that have no network.

    NAME is `arch.tag` of open_clip, or `dreamsim.` and a type of DreamSim; without one the setting openclip_model is
    taken. An interrupted fetch goes on from where it was. HF_TOKEN and HF_ENDPOINT are honoured.

    \b
    imgrec models fetch
    imgrec models fetch ViT-B-32.laion2b_s34b_b79k
    imgrec models fetch dreamsim.open_clip_vitb32
    imgrec models fetch ViT-L-14-quickgelu.openai --models-root /shared/models
    """
    speak_plainly(verbose)
    from imgrec.embedders.models.sources import fetch_model

    chosen = Settings.load(models_root=models_root)
    with cleaning_up(), _progress(as_json) as on_progress:
        model = fetch_model(chosen.models_root, name or chosen.openclip_model, source, on_progress)
    _say_stored(model, as_json)


@models.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@settings_options("models_root")
@json_option
def check(names: tuple[str, ...], models_root: str | None, as_json: bool) -> None:
    """Read all files of models, or of all that are there, and compare their SHA-256."""
    from imgrec.embedders.models.packaged import NAME
    from imgrec.embedders.models.store import model_names

    root = Settings.load(models_root=models_root).models_root
    broken = False
    for name in names or (*model_names(root), NAME):
        reason = None
        try:
            _find(root, name).check()
        except ModelFileError as error:
            reason, broken = str(error), True
        if as_json:
            print_json({"name": name, "ok": reason is None, "reason": reason})
        elif reason is None:
            click.echo(f"{name}: as it was stored")
        else:
            complain(reason)
    if broken:
        raise SystemExit(FAILED)


@models.command()
@click.argument("name")
@click.argument("path")
@click.option(
    "--like", metavar="ARCH.TAG", help="A published model that this one is preprocessed like, and built like."
)
@click.option("--arch", metavar="ARCH", help="Architecture of a checkpoint, as open_clip calls it.")
@click.option("--quick-gelu", type=click.Choice(["yes", "no"]), help="Whether it was trained with QuickGELU.")
@click.option("--mean", metavar="R,G,B", help="Mean that pixels in [0, 1] are normalised by.")
@click.option("--std", metavar="R,G,B", help="Standard deviation, the same.")
@click.option("--interpolation", type=click.Choice(["bicubic", "bilinear"]), help="How pictures are resized.")
@click.option("--resize-mode", type=click.Choice(["shortest", "longest", "squash"]),
              help="Shortest side and crop, longest side and pad, or squashed.")  # fmt: skip
@click.option("--licence", help="What `imgrec models list` says of it.")
@click.option("--replace", is_flag=True, help="Take the place of another model of that NAME.")
@settings_options("models_root")
@json_option
def add(
    name: str, path: str, licence: str | None, replace: bool, quick_gelu: str | None, mean: str | None, std: str | None,
    models_root: str | None, as_json: bool, **stated: str | None,
) -> None:  # fmt: skip
    """Store a model of open_clip of your own under NAME.

    PATH is a folder as open_clip's `local-dir:` has it (open_clip_config.json and weights, as the Hugging Face Hub has
    them too), or a checkpoint. Nothing is taken for granted: what neither a config nor a published model of that NAME
    says has to be said here.

    Of `dreamsim.` and a type, PATH is a folder that the library DreamSim used as its cache_dir (./models by default),
    and everything is known.

    \b
    imgrec models add ViT-L-14-quickgelu.openai ViT-L-14.pt
    imgrec models add birds epoch_9.pt --like ViT-B-32.laion2b_s34b_b79k
    imgrec ingest ~/Birds --modality openclip --openclip-model birds
    imgrec models add dreamsim.ensemble ./models
    """
    from imgrec.embedders.models.dreamsim_adding import add_dreamsim
    from imgrec.embedders.models.dreamsim_types import PREFIX
    from imgrec.embedders.models.openclip_adding import Stated, add_openclip
    from imgrec.embedders.models.store import LOCAL_DIR

    root = Settings.load(models_root=models_root).models_root
    source = Path(path.removeprefix(LOCAL_DIR))
    if name.startswith(PREFIX):
        if any(value is not None for value in (licence, quick_gelu, mean, std, *stated.values())):
            raise click.UsageError(f"{name} is known in full: leave out what is said of it")
        with cleaning_up():
            model = add_dreamsim(root, name, source, replace)
        _say_stored(model, as_json)
        return
    said = Stated(
        quick_gelu=None if quick_gelu is None else quick_gelu == "yes",
        mean=_three(mean, "--mean"),
        std=_three(std, "--std"),
        **stated,
    )
    with cleaning_up():
        model = add_openclip(root, name, source, said, licence, replace)
    _say_stored(model, as_json)


def _find(root: Path, name: str) -> StoredModel:
    from imgrec.embedders.modalities.efficientnet import EfficientNetEmbedder
    from imgrec.embedders.models.packaged import NAME, find_packaged
    from imgrec.embedders.models.store import find_model

    if name != NAME:
        return find_model(root, name)
    return find_packaged(EfficientNetEmbedder(decode_min_side=1).spec)


def _three(text: str | None, option: str) -> tuple[float, float, float] | None:
    if text is None:
        return None
    try:
        first, second, third = map(float, text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r}: three numbers are needed, as in 0.5,0.5,0.5", param_hint=option) from None
    return first, second, third


@contextmanager
def _progress(as_json: bool) -> Iterator[FileProgress]:
    """A bar on a terminal, nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=as_json or not console.is_terminal) as progress:
        tasks: dict[str, Any] = {}

        def on_progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=done, total=total)

        yield on_progress


def _say_stored(model: StoredModel, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(model))
    else:
        from imgrec.flows.cli.tables import size_of

        click.echo(
            f"{model.name}: {size_of(model.size)}, {model.dim} dimensions, licence: {model.licence}; "
            f"{visible(str(model.folder))}"
        )


def _as_json(model: StoredModel) -> dict[str, object]:
    return {
        "name": model.name,
        "modality": model.modality,
        "dim": model.dim,
        "digest": model.digest,
        "bytes": model.size,
        "licence": model.licence,
        "origin": model.origin,
        "facts": dict(model.facts),
        "files": [vars(file) for file in model.files],
        "folder": str(model.folder),
    }
