"""An ingest step by step: `imgrec scan`, `embed`, `train`, `index build`; and `index drop`."""

import click

from imgrec.conf.settings import Settings
from imgrec.flows.cli.console import print_json, speak_plainly
from imgrec.flows.cli.options import chosen_of, json_option, library_option, retry_option, settings_options
from imgrec.flows.cli.outcome import asking_if_vanished, begin, show_report
from imgrec.flows.pipeline.interrupts import cleaning_up


@click.command()
@click.argument("photos", required=False)
@library_option
@click.option("--photos-moved", is_flag=True, help="The library's photos are in PHOTOS now.")
@click.option("--accept-missing", is_flag=True, help="Mark photos missing, however many are gone.")
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
    photos: str | None,
    library: str | None,
    photos_moved: bool,
    accept_missing: bool,
    retry_failed: bool,
    as_json: bool,
    **settings: str | None,
) -> None:
    """Find out which photos there are: new, moved, copied, changed, missing. Computes no vector.

    The first of three steps; `imgrec ingest` does all of them.

    \b
    imgrec scan ~/Pictures
    imgrec embed --modality color
    imgrec index build --index color
    """
    begin(verbose)
    from imgrec.flows.scan_images import scan_images

    options = {
        "images_root": photos,
        "library": library,
        "photos_moved": photos_moved,
        "accept_missing": accept_missing,
        "retry_failed": retry_failed,
        "settings": chosen_of(settings),
    }
    show_report(asking_if_vanished(scan_images, options, as_json), as_json)


@click.command()
@library_option
@click.option("--modality", "modalities", multiple=True, metavar="NAME",
              help="Modality to compute; may be repeated.  [default: those of the library]")  # fmt: skip
@retry_option
@settings_options(
    "batch_size", "workers", "device", "openclip_model", "dreamsim_type", "models_root", "max_megapixels",
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
    imgrec embed --modality sift --batch-size 256
    """
    begin(verbose)
    from imgrec.flows.embed_images import embed_images

    show_report(embed_images(library, list(modalities) or None, retry_failed, chosen_of(settings)), as_json)


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
    index is of one modality, or of several: `combo_` and their names in alphabetical order.

    \b
    imgrec index build
    imgrec index build --index combo_color_sift --hnsw-m 48 --ef-construction 200
    """
    begin(verbose)
    from imgrec.flows.build_indexes import build_indexes

    show_report(build_indexes(library, list(indexes) or None, rebuild, chosen_of(settings)), as_json)


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
    from imgrec.search.upkeep.dropping import drop_indexes
    from imgrec.storage.library import open_library
    from imgrec.storage.machine.refusals import explaining

    settings = Settings.load(library=library)
    with explaining(settings.library), cleaning_up():
        size = drop_indexes(settings.library, names)
    if as_json:
        print_json({"library": str(settings.library), "dropped": list(names), "bytes": size})
        return
    from imgrec.flows.cli.tables import size_of

    click.echo(f"dropped {', '.join(names)}, {size_of(size)}")
    wanted = settings.indexes or default_indexes(open_library(settings.library).modalities)
    if again := [name for name in names if name in wanted]:
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
    begin(verbose)
    from imgrec.flows.train_sift import train_sift

    trained = train_sift(library, chosen_of(settings))
    if as_json:
        print_json(vars(trained))
    else:
        click.echo(f"model {trained.model}, of {trained.photos:,} photos; `imgrec ingest` embeds all photos with it")
