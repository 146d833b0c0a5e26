"""What a run did, in numbers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

from imgrec.search.indexes.updating import IndexReport
from imgrec.storage.photos.roots import Roots
from imgrec.storage.scan import ScanReport
from imgrec.tasks.tracking import TrackedRun


@dataclass
class Stages:
    """Seconds of each stage of a run."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - started


class Embedded(NamedTuple):
    """Images that got a vector, and the size of all files that were read for it."""

    images: int
    bytes: int


@dataclass(frozen=True)
class RunReport:
    """The outcome of one run: of an ingest, or of the stages that ran.

    `failures` counts failed images by status; `retried` counts contents that had failed and were tried again. `choice`
    is what a run that made the library chose for it.
    """

    library: str
    roots: Roots
    modalities: tuple[str, ...]
    scan: ScanReport | None
    embedded: Embedded | None
    indexes: Mapping[str, IndexReport]
    images: Mapping[str, int]
    failures: Mapping[str, int]
    bytes_on_disk: Mapping[str, int]
    seconds: Mapping[str, float]
    retried: int = 0
    tracked: TrackedRun | None = None
    choice: str = ""

    @property
    def images_per_s(self) -> float:
        embed_s = self.seconds.get("embed", 0.0)
        return self.embedded.images / embed_s if self.embedded and embed_s else 0.0

    @property
    def did_nothing(self) -> bool:
        """Whether everything was as it was before."""
        scanned = self.scan is not None and bool(
            self.scan.read or self.scan.identified.missing or self.scan.identified.excluded
        )
        embedded = self.embedded is not None and self.embedded.bytes > 0
        built = any(report.action != "unchanged" for report in self.indexes.values())
        return not (scanned or embedded or built or self.retried)

    @property
    def failed_share(self) -> float:
        present = self.images["ok"] + self.images["failed"]
        return self.images["failed"] / present if present else 0.0

    def metrics(self) -> dict[str, float]:
        """The numbers that MLflow keeps."""
        metrics: dict[str, float] = {
            **{f"{stage}.seconds": seconds for stage, seconds in self.seconds.items()},
            **{f"images.{state}": count for state, count in self.images.items()},
            **{f"failures.{status}": count for status, count in self.failures.items()},
            **{f"bytes.{place}": size for place, size in self.bytes_on_disk.items()},
            "images.retried": self.retried,
        }
        if self.scan is not None:
            metrics |= {f"scan.{name}": count for name, count in vars(self.scan.identified).items()}
            metrics |= {"scan.found": self.scan.found, "scan.read": self.scan.read}
        if self.embedded is not None:
            metrics |= {"embed.images": self.embedded.images, "embed.bytes": self.embedded.bytes}
            metrics |= {"embed.images_per_s": self.images_per_s}
        for name, report in self.indexes.items():
            metrics |= {
                f"index.{name}.vectors": report.manifest.live,
                f"index.{name}.bytes": report.bytes,
                f"index.{name}.build_seconds": report.build_s,
            }
            if report.recall is not None:
                metrics[f"index.{name}.recall_at_10"] = report.recall
        return metrics

    def as_json(self) -> dict[str, object]:
        """The closing table for programs; keys stay as they are from version to version."""
        return {
            "library": self.library,
            "images_root": self.roots.only,
            "images_roots": dict(self.roots.folders) if self.roots.are_named else {},
            "modalities": list(self.modalities),
            **({} if self.scan is None else _describe_scan(self.scan)),
            **({} if self.embedded is None else {"embedded": self.embedded.images}),
            "retried": self.retried,
            "images": dict(self.images),
            "failures": dict(self.failures),
            "bytes_on_disk": dict(self.bytes_on_disk),
            "images_per_s": round(self.images_per_s, 1),
            "seconds": {stage: round(seconds, 3) for stage, seconds in self.seconds.items()},
            "indexes": {name: describe_index(report) for name, report in self.indexes.items()},
            "choice": self.choice or None,
            "mlflow": None if self.tracked is None else vars(self.tracked),
        }


def _describe_scan(scan: ScanReport) -> dict[str, object]:
    did = scan.identified
    return {
        "found": scan.found,
        "unchanged": scan.unchanged,
        "new": did.new,
        "copied": did.copied,
        "moved": did.moved,
        "changed": did.changed,
        "returned": did.returned,
        "missing": did.missing,
        "excluded": did.excluded,
        "other_files": scan.other_files,
        "left_out": scan.left_out,
        "roots_left_alone": scan.left_alone,
    }


def describe_index(report: IndexReport) -> dict[str, object]:
    manifest = report.manifest
    return {
        "version": manifest.version,
        "action": report.action,
        "vectors": manifest.live,
        "segments": len(manifest.segments),
        "added": report.added,
        "removed": report.removed,
        "bytes": report.bytes,
        "recall_at_10": report.recall,
        **manifest.parameters,
        "kind": manifest.kind,
        "why": manifest.why,
        "ef_search": manifest.ef_search,
    }
