"""An ingest step by step: `imgrec scan`, `embed`, `train`, `index build`; and `index drop`."""

from typing import Any

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly
from imgrec.flows.cli.options import (
    chosen_of,
    json_option,
    library_option,
    retry_option,
    roots_of,
    roots_options,
    settings_options,
    walking_options,
)
from imgrec.flows.cli.outcome import load_flow, run_stage
from imgrec.flows.pipeline.interrupts import cleaning_up


@click.command()
@roots_options
@library_option
@click.option("--accept-missing", is_flag=True, help="Mark photos missing, however many are gone.")
@walking_options
@retry_option
@settings_options(
    "workers", "bins", "decode_min_side", "openclip_model", "dreamsim_type", "models_root", "max_megapixels",
    "decode_timeout_s", "max_missing_share",
)  # fmt: skip
@json_option
@click.pass_obj
def scan(
    verbose: bool,
    /,
    photos: tuple[str, ...],
    removed: tuple[str, ...],
    library: str | None,
    photos_moved: bool,
    accept_missing: bool,
    retry_failed: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Find out which photos there are: new, moved, copied, changed, missing. Computes no vector.

    The first of three steps; `imgrec ingest` does all of them.

    \b
    imgrec scan ~/Pictures
    imgrec embed --modality color
    imgrec index build --index color
    """
    where, chosen = {"images_root": roots_of(photos, removed), "library": library}, chosen_of(settings)
    flags = {"photos_moved": photos_moved, "accept_missing": accept_missing, "retry_failed": retry_failed}
    loaded = Settings.load(**where, **chosen)
    run_stage("scan", loaded, {**where, "settings": chosen}, flags, as_json, verbose)


@click.command()
@library_option
@click.option("--modality", "modalities", multiple=True, metavar="NAME",
              help="Modality to compute; may be repeated.  [default: those of the library]")  # fmt: skip
@retry_option
@settings_options(
    "executor", "chunk_size", "workers", "device", "openclip_model", "dreamsim_type", "models_root", "max_megapixels",
    "decode_timeout_s", "max_failed_share",
)  # fmt: skip
@json_option
@click.pass_obj
def embed(
    verbose: bool,
    /,
    library: str | None,
    modalities: tuple[str, ...],
    retry_failed: bool,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Compute the vectors that are missing, for the photos that `imgrec scan` found.

    A modality that the library does not have yet becomes one of its own.

    \b
    imgrec embed
    imgrec embed --modality sift --chunk-size 256
    """
    names, chosen = list(modalities) or None, chosen_of(settings)
    loaded = Settings.load(library=library, modalities=names, **chosen)
    flags = {"modalities": names, "retry_failed": retry_failed}
    run_stage("embed", loaded, {"library": library, "settings": chosen}, flags, as_json, verbose)


@click.group()
def index() -> None:
    """Build the indexes that `imgrec search` searches, or drop some."""


@index.command()
@library_option
@click.option("--index", "indexes", multiple=True, metavar="NAME",
              help="Index to build beside those that are there; may be repeated.  "
                   "[default: one per modality, and all combined]")  # fmt: skip
@click.option("--batch-size", "index_batch_size", metavar="VALUE",
              help="Vectors read at a time: the setting index_batch_size.")  # fmt: skip
@click.option("--rebuild", is_flag=True, help="Build a new graph, even if the index could be kept or added to.")
@settings_options("hnsw_m", "ef_construction", "ef_search", "recall_sample")
@json_option
@click.pass_obj
def build(
    verbose: bool,
    /,
    library: str | None,
    indexes: tuple[str, ...],
    rebuild: bool,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Bring indexes in step with the vectors that are there.

    A few new photos are added, deleted ones taken out; with another M or efConstruction the graph is built anew. An
    index is of one modality, or of several: `combo_` and their names, in any order.

    \b
    imgrec index build
    imgrec index build --index combo_color_sift --hnsw-m 48 --ef-construction 200
    """
    where, chosen = {"library": library, "indexes": list(indexes) or None}, chosen_of(settings)
    loaded = Settings.load(**where, **chosen)
    run_stage("build", loaded, {**where, "settings": chosen}, {"rebuild": rebuild}, as_json, verbose)


@index.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@library_option
@json_option
@click.pass_obj
def drop(verbose: bool, /, names: tuple[str, ...], library: str | None, as_json: bool) -> None:
    """Remove indexes: what no longer is searched costs every ingest time, and space. Vectors stay.

    One that an ingest builds by default comes back with the next one, unless the setting `indexes` names others.

    \b
    imgrec index drop combo_color_sift
    """
    speak_plainly(verbose)
    from imgrec.search.fusion import default_indexes
    from imgrec.search.names import canonical_name
    from imgrec.search.upkeep.dropping import drop_indexes
    from imgrec.storage.library import open_library
    from imgrec.storage.machine.os_errors import explaining

    settings = Settings.load(library=library)
    built = settings.indexes or default_indexes(open_library(settings.library).modalities)
    wanted = [canonical_name(name) for name in built]
    with explaining(settings.library), cleaning_up():
        size = drop_indexes(settings.library, names)
    dropped = list(dict.fromkeys(map(canonical_name, names)))
    if as_json:
        print_json({"library": str(settings.library), "dropped": dropped, "bytes": size})
        return
    from imgrec.flows.cli.tables import size_of

    click.echo(f"dropped {', '.join(dropped)}, {size_of(size)}")
    if again := [name for name in dropped if name in wanted]:
        click.echo(f"the next `imgrec ingest` builds {', '.join(again)} again, unless the setting indexes names others")


@click.group()
def train() -> None:
    """Learn something from a library's own photos."""


@train.command()
@library_option
@settings_options("workers")
@json_option
@click.pass_obj
def sift(verbose: bool, /, library: str | None, as_json: bool, **settings: str | None) -> None:
    """Learn a SIFT codebook from this library's photos.

    It takes the place of the packaged one at the next `imgrec ingest`, which gives all photos new sift vectors; the old
    ones serve until then. Vectors of two codebooks cannot be compared.

    \b
    imgrec train sift
    imgrec ingest
    """
    trained = load_flow("train_sift", verbose)(library, chosen_of(settings))
    if as_json:
        print_json(vars(trained))
    else:
        click.echo(f"model {trained.model}, of {trained.photos:,} photos; `imgrec ingest` embeds all photos with it")
