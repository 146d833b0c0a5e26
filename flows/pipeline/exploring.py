"""Exploring a library: its map, brought in step, and a page that shows it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from imgrec.conf.settings import Settings
from imgrec.embedders.machine import Machine
from imgrec.flows.pipeline.progress import stage_progress
from imgrec.flows.pipeline.run import run_name
from imgrec.search.errors import IndexNotFoundError
from imgrec.search.indexes.layout import find_index, list_indexes
from imgrec.search.map.clusters import ALONE, Cluster
from imgrec.search.map.extra import check_explore
from imgrec.search.map.files import MapFacts, MapFolder
from imgrec.search.map.making import MapParameters
from imgrec.search.map.stored import read_map
from imgrec.search.names import by_preference
from imgrec.storage.library import Library, open_library
from imgrec.storage.machine.lock import writer_lock
from imgrec.storage.machine.os_errors import explaining
from imgrec.storage.photos.profiles import profiles_of
from imgrec.storage.thumbnails.making import Reading
from imgrec.tasks.calls import Calls
from imgrec.tasks.driver import driving
from imgrec.tasks.exploring import Page, draw_map, keep_thumbnails, write_map_page
from imgrec.tasks.tracking import RunRecord, TrackedRun, track

# More would make a page that takes long to open: 10,000 photos are 15 MB.
PAGE_PHOTOS = 10_000


@dataclass(frozen=True)
class ExploreReport:
    """The map as it is now. `alone` photos are in no cluster; `page` has `shown` photos."""

    library: str
    map: str
    version: str
    action: str
    facts: MapFacts
    clusters: tuple[Cluster, ...]
    alone: int
    links: int
    communities: int
    page: Path | None
    shown: int
    seconds: dict[str, float]
    tracked: TrackedRun | None = None

    def metrics(self) -> dict[str, float]:
        """The numbers that MLflow keeps."""
        facts = self.facts
        return {
            **{f"{stage.replace(' ', '_')}.seconds": seconds for stage, seconds in self.seconds.items()},
            **{name: getattr(facts, name) for name in ("photos", "mapped", "fitted", "later", "graph_photos")},
            "clusters": len(self.clusters),
            "alone": self.alone,
            "links": self.links,
            "communities": self.communities,
        }

    def as_json(self) -> dict[str, object]:
        """The report for programs."""
        facts = {key: value for key, value in asdict(self.facts).items() if key not in ("sha256", "seconds", "action")}
        return {
            "library": self.library,
            "map": self.map,
            "version": self.version,
            "action": self.action,
            **facts,
            "alone": self.alone,
            "links": self.links,
            "communities": self.communities,
            "clusters": [asdict(cluster) for cluster in self.clusters],
            "page": None if self.page is None else str(self.page),
            "shown": self.shown,
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
        }


def explore(
    chosen: Settings,
    calls: Calls,
    *,
    index: str | None = None,
    limit: int | None = None,
    refit: bool = False,
    output: Path | None = None,
    page_photos: int = PAGE_PHOTOS,
    with_paths: bool = True,
) -> ExploreReport:
    """Bring the map of an index in step with a library, and write its page to `output`.

    Without an index it is the one that is searched by default. `limit` maps so many photos, drawn at random.

    Raises:
        IndexNotFoundError: the library has no such index, or none.
        MissingExtraError: what maps are made with is not installed.
    """
    library, started_s = open_library(chosen.library), time.time()
    name = _index_of(library, index)
    check_explore()
    with _driving(library, chosen):
        machine = Machine(chosen.models_root, chosen.device)
        drawn = calls.call(draw_map, library, name, limit, _parameters(chosen), refit, machine)
        shown = 0
        if output is not None:
            page = Page(output, page_photos, with_paths)
            reading = reading_of(library, chosen)
            shown = calls.call(write_map_page, library, name, limit, page, reading, chosen.map_seed)
    folder = MapFolder(library.maps_dir, name, limit)
    made, facts = read_map(folder, drawn.version)
    report = ExploreReport(
        library=str(library.root),
        map=folder.name,
        version=drawn.version,
        action=drawn.action,
        facts=facts,
        clusters=made.clusters,
        alone=int((made.cluster == ALONE).sum()),
        links=len(made.links.source),
        communities=int(made.community.max(initial=ALONE)) + 1,
        page=output,
        shown=shown,
        seconds={} if drawn.action == "unchanged" else dict(facts.seconds),
    )
    record = RunRecord("imgrec-explore", run_name("explore"), started_s, _logged(report), report.metrics())
    return replace(report, tracked=calls.call(track, library, record))


def thumbnails(chosen: Settings, calls: Calls) -> int:
    """Make the thumbnails that a library lacks; return how many."""
    library = open_library(chosen.library)
    with writer_lock(library.root), _driving(library, chosen):
        return calls.call(keep_thumbnails, library, reading_of(library, chosen))


def reading_of(library: Library, chosen: Settings) -> Reading:
    """How the photos of a library are read."""
    return Reading(
        roots=library.roots,
        follow_links=library.follow_links,
        icc_profiles=profiles_of(library.vector_settings),
        max_megapixels=chosen.max_megapixels,
        decode_timeout_s=chosen.decode_timeout_s,
    )


@contextmanager
def _driving(library: Library, chosen: Settings) -> Iterator[None]:
    """Give steps worker processes and a bar, and explain what the machine refuses them."""
    with (
        explaining(library.root),
        stage_progress() as progress,
        driving(chosen.workers, lambda done, total: None, progress.on_photos, progress.on_stage),
    ):
        yield


def _index_of(library: Library, named: str | None) -> str:
    if named is not None:
        return find_index(library.indexes_dir, named).name
    if names := by_preference(list_indexes(library.indexes_dir)):
        return names[0]
    raise IndexNotFoundError(f"no index in {library.root}: `imgrec ingest` builds it")


def _parameters(chosen: Settings) -> MapParameters:
    return MapParameters(
        chosen.n_neighbors, chosen.min_dist, chosen.min_cluster_size, chosen.graph_threshold, chosen.map_points,
        chosen.graph_points, chosen.map_seed,
    )  # fmt: skip


def _logged(report: ExploreReport) -> dict[str, object]:
    facts = report.facts
    return {
        "map": report.map,
        "version": report.version,
        "action": report.action,
        "limit": facts.limit,
        "min_cluster_size": facts.min_cluster_size,
        "graph_threshold": facts.graph_threshold,
        **facts.parameters,
    }
