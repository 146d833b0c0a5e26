"""Garbage collection as a flow, for a schedule."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger

from imgrec.conf.settings import Settings
from imgrec.flows.skipping import skipped_if_locked
from imgrec.search.indexes.layout import KEEP_REPLACED_S
from imgrec.search.upkeep import garbage


@flow(name="collect-garbage", flow_run_name="gc")
@skipped_if_locked
def collect_garbage(
    library: Path | str | None = None,
    delete: bool = False,
    keep_hours: float = KEEP_REPLACED_S / 3600,
    missing_days: float | None = None,
    settings: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Find what a library no longer needs; return how much that is.

    Args:
        library: folder of the library.
        delete: delete it; else it is only listed.
        keep_hours: keep index versions that were replaced less than this ago.
        missing_days: also forget photos that have been missing for longer than this.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    found = garbage.collect_garbage(chosen.library, delete, keep_hours * 3600, missing_days)
    logger = get_run_logger()
    for item in found:
        logger.info("%s %s: %s, %s bytes", "deleted" if delete else "can go:", item.kind, item.what, f"{item.bytes:,}")
    return {"library": str(chosen.library), "deleted": delete, "bytes": sum(item.bytes for item in found)}
