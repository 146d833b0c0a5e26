"""From photos to an up-to-date library in one go: `imgrec ingest`, `imgrec reembed`."""

from collections.abc import Mapping
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
from imgrec.flows.cli.outcome import run_stage, show_report
from imgrec.flows.cli.server_named import server_is_named


@click.command()
@roots_options
@library_option
@click.option("--modality", "modalities", multiple=True, metavar="NAME", help="Modality to compute; may be repeated.")
@click.option(
    "--index",
    "indexes",
    multiple=True,
    metavar="NAME",
    help="Index to build beside those that are there; may be repeated.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, how long it would take, and change nothing.")
@click.option("--accept-missing", is_flag=True, help="Mark photos missing, however many are gone.")
@walking_options
@retry_option
@settings_options(
    "executor", "chunk_size", "workers", "device", "bins", "decode_min_side", "openclip_model", "dreamsim_type",
    "precision", "cpu_runtime", "icc_profiles", "models_root", "max_megapixels", "decode_timeout_s", "hnsw_m",
    "ef_construction", "ef_search", "max_failed_share", "max_missing_share", "orchestrate",
)  # fmt: skip
@json_option
@click.pass_obj
def ingest(
    verbose: bool,
    /,
    photos: tuple[str, ...],
    removed: tuple[str, ...],
    library: str | None,
    modalities: tuple[str, ...],
    indexes: tuple[str, ...],
    dry_run: bool,
    photos_moved: bool,
    accept_missing: bool,
    retry_failed: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Make or renew the library of a folder of photos, or of several by name.

    Only what is new or changed is computed. Stop it whenever you like: the next run goes on from there.
    Without PHOTOS, the library's own folders are taken, all of them; one that is not mounted is left alone.

    \b
    imgrec ingest ~/Pictures
    imgrec ingest ~/Pictures --dry-run
    imgrec ingest laptop=~/Pictures nas=/mnt/nas/photos
    imgrec ingest --library ~/photos.imgrec --workers 8
    """
    chosen = chosen_of(settings)
    where = {
        "images_root": roots_of(photos, removed),
        "library": library,
        "modalities": list(modalities) or None,
        "indexes": list(indexes) or None,
    }
    loaded = Settings.load(**where, **chosen)  # what is wrong with them is told before Prefect starts
    if dry_run:
        _print_estimate(loaded, retry_failed, photos_moved, accept_missing, as_json)
        return
    flags = {"photos_moved": photos_moved, "accept_missing": accept_missing, "retry_failed": retry_failed}
    _run_ingest(loaded, {**where, "settings": chosen}, flags, as_json, verbose)


@click.command()
@library_option
@settings_options(
    "bins",
    "decode_min_side",
    "sift_codebook",
    "openclip_model",
    "dreamsim_type",
    "precision",
    "cpu_runtime",
    "icc_profiles",
    "models_root",
    "device",
    "workers",
    "chunk_size",
)
@json_option
@click.pass_obj
def reembed(verbose: bool, /, library: str | None, as_json: bool, **settings: str | None) -> None:
    """Give all images new vectors, by other settings.

    The old vectors and indexes serve until the new ones are complete; then all indexes change together. Stop it
    whenever you like: `imgrec ingest` goes on from there. `imgrec gc` removes the old vectors afterwards; as long as
    they are there, going back costs no more than building the indexes.

    \b
    imgrec reembed --bins 16x8x8
    imgrec reembed --sift-codebook default     back from `imgrec train sift` to the packaged codebook
    """
    from imgrec.storage.library import open_library

    chosen = chosen_of(settings)
    loaded = Settings.load(library=library, **chosen)
    open_library(loaded.library)
    _run_ingest(loaded, {"library": library, "settings": chosen}, {"reembed": True}, as_json, verbose)


def _run_ingest(
    loaded: Settings, sources: Mapping[str, Any], flags: dict[str, bool], as_json: bool, verbose: bool
) -> None:
    """Look first, where no server's UI is to show the run: to start Prefect for nothing takes many seconds."""
    if loaded.orchestrate == "prefect" and not server_is_named():
        speak_plainly(verbose)
        from imgrec.flows.pipeline.ingesting import ingest_nothing

        report = ingest_nothing(loaded, **flags)
        if report is not None:
            show_report(report, as_json, verbose)
            return
    run_stage("ingest", loaded, sources, flags, as_json, verbose)


def _print_estimate(
    settings: Settings, retry_failed: bool, photos_moved: bool, accept_missing: bool, as_json: bool
) -> None:
    from imgrec.flows.pipeline.dry_run import estimate_ingest

    estimate = estimate_ingest(settings, retry_failed, photos_moved, accept_missing)
    if as_json:
        facts = {name: value for name, value in vars(estimate).items() if name not in ("roots", "left_alone")}
        print_json({**facts, "roots_left_alone": estimate.left_alone, "disk_bytes": estimate.disk_bytes})
    else:
        from imgrec.flows.cli.tables import print_estimate

        print_estimate(estimate)
