"""Shorter vectors of real pictures: `python -m benchmarks.compression VECTORS.npy [--views N] [--quick]`.

VECTORS has `--views` rows a picture side by side (benchmarks/real_vectors.py: 4), a picture and its crops. They stay on
one side when pictures are parted in those to learn from and those to judge by. Every method learns from the same
pictures, and every seed parts them anew.

- `ae64_minus_pca64`: recall@10 of the original neighbours among the pictures that judge; the mean over the seeds of the
  difference on the same parting, and its 95 % interval (Student's t).
- `class_map_kept`: mean average precision, of views of one picture as a class, of 64 numbers against all of them.
- `train_s`: seconds to learn the autoencoder.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from imgrec.embedders.compression.methods import fit
from imgrec.search.evaluation.compression import neighbours, recall_at_10

Vectors = NDArray[np.float32]
# The best of five tries by hand on a quarter of these vectors; see docs/compression.md.
SETTINGS = {"depth": 1, "width": 256, "temperature": 0.02, "epochs": 12}
FAISS = ("OPQ64_64,PQ64x8", "PQ64x8", "SQ8", "SQ4", "PCA64,SQ8", "RaBitQ")


def part(rows: Vectors, views: int, seed: int, share: float = 0.3) -> tuple[Vectors, Vectors, NDArray[np.intp]]:
    """Part the pictures: rows to learn from, rows that judge, and of which picture each of these is."""
    pictures = np.random.default_rng(seed).permutation(len(rows) // views)
    held = int(len(pictures) * share)
    places = [
        np.sort((some[:, None] * views + np.arange(views)).ravel()) for some in (pictures[held:], pictures[:held])
    ]
    learnt, judged = (place[np.linalg.norm(rows[place], axis=1) > 0.5] for place in places)
    return np.array(rows[learnt], np.float32), np.array(rows[judged], np.float32), judged // views


def class_map(rows: Vectors, classes: NDArray[np.intp], queries: NDArray[np.intp]) -> float:
    """Mean average precision of finding the other rows of a query's class."""
    found = []
    for query in queries:
        products = rows @ rows[query]
        products[query] = -np.inf
        right = (classes == classes[query])[np.argsort(-products)[:-1]]
        if right.any():
            ranks = np.flatnonzero(right) + 1
            found.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
    return float(np.mean(found))


def decoded_by_faiss(name: str, learnt: Vectors, judged: Vectors) -> tuple[Vectors, int]:
    """What FAISS's codec makes of the judged rows, and its bytes a row."""
    index = faiss.index_factory(learnt.shape[1], name, faiss.METRIC_INNER_PRODUCT)
    index.train(learnt)
    return np.asarray(index.sa_decode(index.sa_encode(judged))), int(index.sa_code_size())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two seeds, 64 dimensions, no codecs of FAISS")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON, after every method")
    parser.add_argument("--plot", type=Path, help="where recall against bytes is drawn, as PNG")
    asked = parser.parse_args()
    rows = np.load(asked.vectors, mmap_mode="r")
    results: list[dict[str, object]] = []

    def keep(seed: int, method: str, size: int, recall: float, **more: float) -> None:
        results.append({"seed": seed, "method": method, "bytes": size, "recall": recall, **more})
        print(json.dumps(results[-1]), flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(results, indent=1))

    seeds = range(2 if asked.quick else asked.seeds)
    # What the intervals need comes first; other sizes and codecs are measured with one seed.
    for seed, dims, codecs in [(seed, (64,), ()) for seed in seeds] + ([] if asked.quick else [(0, (32, 128), FAISS)]):
        learnt, judged, classes = part(rows, asked.views, seed)
        known = neighbours(judged)
        queries = np.random.default_rng(seed).permutation(len(judged))[:500]
        full = class_map(judged, classes, queries)
        if 64 in dims:
            keep(seed, "full", 4 * judged.shape[1], 1.0, class_map=full, learnt=len(learnt), judged=len(judged))
        for dim in dims:
            for method in ("pca", "ae", "rp"):
                started, cpu = time.perf_counter(), time.process_time()
                encoder = fit(method, learnt, dim, {}, seed, SETTINGS)
                seconds, cpu_s = time.perf_counter() - started, time.process_time() - cpu
                short = encoder.encode(judged)
                more = {"class_map_kept": class_map(short, classes, queries) / full} if dim == 64 else {}
                recall = recall_at_10(judged, short, known=known)
                keep(seed, f"{method}{dim}", 4 * dim, recall, train_s=seconds, train_cpu_s=cpu_s, **more)
        for name in codecs:
            try:
                decoded, size = decoded_by_faiss(name, learnt, judged)
            except RuntimeError as error:
                print(name, "has no codec of its own:", str(error).splitlines()[-1][:100])
                continue
            keep(seed, name, size, recall_at_10(judged, decoded, known=known))
    told(results)
    if asked.plot:
        plot(results, asked.plot)


def told(results: list[dict[str, object]]) -> None:
    """Print the metrics, with their intervals over the seeds."""

    def by_seed(method: str, value: Callable[[dict[str, object]], object]) -> NDArray[np.float64]:
        return np.array([value(one) for one in results if one["method"] == method], np.float64)

    differences = by_seed("ae64", lambda one: one["recall"]) - by_seed("pca64", lambda one: one["recall"])
    print("ae64_minus_pca64", interval(differences))
    for method in ("pca64", "ae64", "rp64"):
        print(method, "recall@10", interval(by_seed(method, lambda one: one["recall"])))
        print(method, "class_map_kept", interval(by_seed(method, lambda one: one["class_map_kept"])))
    print("train_s of ae64", by_seed("ae64", lambda one: one["train_s"]).round(1).tolist())


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draw recall against bytes, of seed 0."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    chosen = [one for one in results if one["seed"] == 0 and one["method"] != "full"]
    for name in ("ae", "pca", "rp"):
        line = sorted((one["bytes"], one["recall"]) for one in chosen if str(one["method"])[:-2].rstrip("1") == name)
        axes.plot(*zip(*line, strict=True), "o-", label=name)
    for one in chosen:
        if one["method"] in FAISS:
            axes.plot(one["bytes"], one["recall"], "x", color="grey")
            axes.annotate(
                str(one["method"]), (one["bytes"], one["recall"]), xytext=(4, -10), textcoords="offset points"
            )
    axes.set(xscale="log", xlabel="bytes a vector (full: 5,120)", ylabel="recall@10 of the full vectors' neighbours")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def interval(values: NDArray[np.float64]) -> str:
    half = (
        student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    )
    return f"{values.mean():+.4f} ± {half:.4f} ({len(values)} seeds)"


if __name__ == "__main__":
    main()
