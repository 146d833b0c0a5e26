"""What an evaluation found, in numbers; keys of JSON stay as they are from version to version."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgrec.search.evaluation.classes import DEPTH, ClassLists, ClassScores
from imgrec.search.evaluation.copies import CopyScores
from imgrec.search.evaluation.distortions import DISTORTIONS
from imgrec.search.evaluation.searching import SearchQuality, Speed
from imgrec.search.evaluation.suggesting import Difference, Suggestion, interval
from imgrec.search.evaluation.weightings import Weighting

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ClassMeans:
    """Means over queries, each in [0, 1]."""

    queries: int
    p_at_1: float
    map: float
    map_strict: float

    @classmethod
    def of(cls, scores: ClassScores, chosen: NDArray[np.bool_]) -> "ClassMeans":
        means = (float(values[chosen].mean()) for values in (scores.first, scores.precision, scores.strict))
        return cls(int(chosen.sum()), *means)

    def as_json(self) -> dict[str, object]:
        return {
            "queries": self.queries,
            "p_at_1": round(self.p_at_1, 4),
            f"map_at_{DEPTH}": round(self.map, 4),
            f"map_at_{DEPTH}_strict": round(self.map_strict, 4),
        }


@dataclass(frozen=True)
class ClassQuality:
    """How well a weighting finds classes; `interval` is of the mAP."""

    weighting: Weighting
    expanded: bool
    means: ClassMeans
    interval: tuple[float, float]
    by_class: Mapping[str, ClassMeans]

    @property
    def name(self) -> str:
        return f"{self.weighting.name} --expand" if self.expanded else self.weighting.name


@dataclass(frozen=True)
class Classes:
    """How well classes are found: by whose labels, and how many photos and queries that was."""

    labels: str
    classes: int
    photos: int
    queries: int
    alone: int
    unknown: int
    qualities: tuple[ClassQuality, ...]


@dataclass(frozen=True)
class CopyQuality:
    """How well a weighting finds the originals of copies, in all and by distortion."""

    weighting: Weighting
    r_at_1: float
    interval: tuple[float, float]
    by_distortion: Mapping[str, float]

    @property
    def name(self) -> str:
        return self.weighting.name


@dataclass(frozen=True)
class CopiesFound:
    """How well copies are found: of how many photos, among how many; `lost` ones could not be read."""

    photos: int
    lost: int
    among: int
    qualities: tuple[CopyQuality, ...]


def class_quality(
    lists: ClassLists, weighting: Weighting, scores: ClassScores, expanded: bool, seed: int
) -> ClassQuality:
    """Sum up what each query was worth."""
    everything = np.ones(len(lists.queries), bool)
    by_class = {
        lists.labels.classes[code]: ClassMeans.of(scores, lists.codes == code) for code in np.unique(lists.codes)
    }
    means = ClassMeans.of(scores, everything)
    return ClassQuality(weighting, expanded, means, interval(scores.precision, seed), dict(sorted(by_class.items())))


def copy_quality(scores: CopyScores, weighting: Weighting, seed: int) -> CopyQuality:
    """Sum up which copies found their original."""
    found = scores.found[weighting.name]
    by_kind = {kind: float(share) for kind, share in zip(DISTORTIONS, found.mean(axis=0), strict=True)}
    return CopyQuality(weighting, float(found.mean()), interval(found.mean(axis=1), seed), by_kind)


@dataclass(frozen=True)
class Results:
    """Everything that one evaluation found; None is what was not asked for."""

    searching: tuple[SearchQuality, ...] = ()
    classes: Classes | None = None
    copies: CopiesFound | None = None
    suggestion: Suggestion | None = None

    def metrics(self) -> dict[str, float]:
        """The numbers that MLflow keeps: `<what>/<index or weights>/<which>`."""
        found: dict[str, float] = {}
        for one in self.searching:
            found |= {f"search/{one.index}/{name}": value for name, value in _search_metrics(one).items()}
        for quality in self.classes.qualities if self.classes else ():
            place = f"classes/{_as_key(quality.name)}"
            means = quality.means
            found |= {f"{place}/p_at_1": means.p_at_1, f"{place}/map": means.map}
            found[f"{place}/map_strict"] = means.map_strict
        for copied in self.copies.qualities if self.copies else ():
            place = f"copies/{_as_key(copied.name)}"
            found[f"{place}/r_at_1"] = copied.r_at_1
            found |= {f"{place}/r_at_1_{kind}": share for kind, share in copied.by_distortion.items()}
        if self.suggestion:
            found["suggestion/gain"] = self.suggestion.overall.difference
        return found

    def as_json(self) -> dict[str, object]:
        return {
            "indexes": [_search_json(one) for one in self.searching],
            "classes": self.classes and _classes_json(self.classes),
            "copies": self.copies and _copies_json(self.copies),
            "suggestion": self.suggestion and _suggestion_json(self.suggestion),
        }


def _search_metrics(one: SearchQuality) -> dict[str, float]:
    return {
        "recall": one.recall,
        "p50_ms": one.one_thread.p50_ms,
        "p95_ms": one.one_thread.p95_ms,
        "p99_ms": one.one_thread.p99_ms,
        "queries_per_s_1_thread": one.one_thread.queries_per_s,
        "queries_per_s_all_threads": one.all_threads.queries_per_s,
        "photos": one.photos,
    }


def _search_json(one: SearchQuality) -> dict[str, object]:
    speeds = {"one_thread": one.one_thread, "all_threads": one.all_threads}
    return {
        "index": one.index,
        "version": one.version,
        "photos": one.photos,
        "behind": one.behind,
        "queries": one.queries,
        "k": one.k,
        "ef_search": one.ef_search,
        "recall": round(one.recall, 4),
        "latency_ms": {name: _latencies(speed) for name, speed in speeds.items()},
        "queries_per_s": {name: round(speed.queries_per_s, 1) for name, speed in speeds.items()},
        "sweep": [
            {"ef_search": point.ef_search, "recall": round(point.recall, 4), "p50_ms": round(point.p50_ms, 4)}
            for point in one.sweep
        ],
    }


def _latencies(speed: Speed) -> dict[str, float]:
    return {"p50": round(speed.p50_ms, 4), "p95": round(speed.p95_ms, 4), "p99": round(speed.p99_ms, 4)}


def _classes_json(found: Classes) -> dict[str, object]:
    return {
        "labels": found.labels,
        "classes": found.classes,
        "photos": found.photos,
        "queries": found.queries,
        "alone": found.alone,
        "unknown": found.unknown,
        "weightings": [
            {
                "name": one.weighting.name,
                "weights": dict(one.weighting.weights),
                "expanded": one.expanded,
                **one.means.as_json(),
                "interval": _rounded(one.interval),
                "by_class": {label: means.as_json() for label, means in one.by_class.items()},
            }
            for one in found.qualities
        ],
    }


def _copies_json(found: CopiesFound) -> dict[str, object]:
    return {
        "photos": found.photos,
        "lost": found.lost,
        "among": found.among,
        "weightings": [
            {
                "name": one.name,
                "weights": dict(one.weighting.weights),
                "r_at_1": round(one.r_at_1, 4),
                "interval": _rounded(one.interval),
                "by_distortion": {kind: round(share, 4) for kind, share in one.by_distortion.items()},
            }
            for one in found.qualities
        ],
    }


def _suggestion_json(found: Suggestion) -> dict[str, object]:
    return {
        "present": {"name": found.present.name, "weights": dict(found.present.weights)},
        "suggested": dict(found.suggested.weights),
        "tried": found.tried,
        "chosen_on": found.chosen_on,
        "judged_on": found.judged_on,
        "is_real": found.overall.is_real,
        "overall": _difference_json(found.overall),
        "by_measure": {name: _difference_json(one) for name, one in found.by_measure.items()},
    }


def _difference_json(one: Difference) -> dict[str, object]:
    facts = {"present": one.first, "suggested": one.second, "difference": one.difference}
    return {**{name: round(value, 4) for name, value in facts.items()}, "interval": _rounded((one.low, one.high))}


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 4) for value in values]


def _as_key(name: str) -> str:
    """MLflow's names of metrics hold neither `=` nor commas."""
    return name.replace("=", " ").replace(",", " ").replace(" --", " ")
