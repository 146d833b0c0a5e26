"""Finding copies as a flow: scheduled or called from other flows, with what it found in MLflow."""

import time
from pathlib import Path
from typing import Any

from prefect import flow

from imgrec.conf.settings import Settings
from imgrec.search.duplicates.groups import EXACT, Group
from imgrec.search.duplicates.keeping import DEFAULT_RULES
from imgrec.search.opened import OpenLibrary
from imgrec.tasks.prefect_calls import PrefectCalls
from imgrec.tasks.tracking import RunRecord, track


@flow(name="find-duplicates", flow_run_name="duplicates")
def find_duplicates(
    library: Path | str | None = None,
    index: str | None = None,
    threshold: float | None = None,
    exact: bool = False,
    keep: list[str] | None = None,
    prefer: list[str] | None = None,
    settings: dict[str, Any] | None = None,
) -> list[Group]:
    """Find photos that are copies of one picture, and log how many there are and how long that took.

    Args:
        library: folder of the library.
        index: index that says what is near; default: the library's.
        threshold: photos this much alike are near copies; default: the index's.
        exact: only files of the same bytes.
        keep: rules that say which photo of a group to keep, the first one first.
        prefer: folders whose photos the rule `folder` prefers.
        settings: any other setting by name, as in imgrec.toml.
    """
    chosen = Settings.load(library=library, **(settings or {}))
    started_s = time.time()
    with OpenLibrary(chosen.library) as opened:
        groups = opened.duplicates(index, threshold, exact, keep or DEFAULT_RULES, prefer or ())
        parameters = {"index": index or "", "threshold": threshold or "", "exact": exact}
        metrics = {
            "exact_groups": float(sum(group.kind == EXACT for group in groups)),
            "near_groups": float(sum(group.kind != EXACT for group in groups)),
            "spare_bytes": float(sum(group.spare_bytes for group in groups)),
            "seconds": time.time() - started_s,
        }
        record = RunRecord("imgrec-duplicates", "duplicates", started_s, parameters, metrics)
        PrefectCalls(retries=0).call(track, opened.library, record)
    return groups
