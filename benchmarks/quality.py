"""How well searching finds what it should: `python -m benchmarks.quality [--quick]`.

Photos: Debian's tuxpaint-stamps-default (classes = folders; drawings, symbols, flags left out) and the photos that
installed packages ship. No codebook was made from any of them. Two sets: without the stamps under 128 pixels, and
(any_size_…) with them, half of all. Exact search throughout: this measures vectors, not graphs.

sift_copies_r1, color_…, efficientnet_…   share of distorted copies whose original is the nearest of all originals, mean
                                          over nine distortions made with fixed seeds
sift_copies_r1_apart, …                   the same where of the four photos in a collage three do not count
sift_copies_r1_q15, …_grey, …_third       the same of one distortion
color_map, sift_map, efficientnet_map     class retrieval, mAP@50, every photo as the query among all others
efficientnet_map_broad                    the same with classes no finer than animals/mammals
color_sift_copies_r1, color_sift_map      both of colour and sift combined; combo_… of all three
color_sift_gain_low                       their combination minus its best member in mAP on the half of the classes'
                                          photos that the weight was not chosen on, both ways: lower end of the
                                          bootstrap 95 % interval
combo_judged_map, combo_judged_r1         all three minus the best of them, where the weights are those that find most
                                          copies (apart) on the other half of the photos without losing 0.002 of mAP
                                          there; mean over thirty ways of halving
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Metric, report, wants_quick
from benchmarks.quality_photos import COLLAGE, distort, load_photos
from embedders.catalogue import create_embedders
from search.fusion import index_modalities

SETS = {"": 128, "any_size_": 0}
SETTINGS = {"bins": [8, 8, 8], "decode_min_side": 448, "sift_model": "default"}
MEMBERS = ("color", "sift", "efficientnet")
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HALVINGS = 30

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]
Weights = dict[str, float]


@dataclass(frozen=True)
class Photos:
    """Photos' classes and vectors, those of their copies by distortion, and what else each collage shows: (N, 3)."""

    classes: list[str]
    originals: dict[str, Matrix]
    copies: dict[str, dict[str, Matrix]]
    beside: NDArray[np.int64]


def main() -> None:
    """Measure, print."""
    step = 6 if wants_quick(__doc__) else 1
    metrics: dict[str, Metric] = {}
    details: dict[str, str] = {}
    for prefix, smallest_side in SETS.items():
        photos = describe(load_photos(smallest_side)[::step])
        found = measure_copies(photos) | measure_classes(photos)
        judged_map, judged_r1, weights = judge_three(photos)
        found["combo_judged_map"] = Metric(judged_map, -0.005, at_least=True)
        found["combo_judged_r1"] = Metric(judged_r1, 0.03, at_least=True)
        details[f"{prefix}photos"] = str(len(photos.classes))
        details[f"{prefix}weights chosen on halves, mean"] = str(weights)
        if smallest_side:
            found |= measure_distortions_of_sift(photos)
            gain, low, chosen = gain_of_combining(photos)
            found |= {"color_sift_gain": Metric(gain), "color_sift_gain_low": Metric(low, 0.0, at_least=True)}
            details["weights of color beside sift, chosen on each half"] = str(chosen)
        metrics |= {f"{prefix}{name}": metric for name, metric in found.items()}
    report("quality", metrics, details)


def describe(photos: list[tuple[str, Image.Image]]) -> Photos:
    """Embed photos and their copies."""
    images = [image for _, image in photos]
    random = np.random.default_rng(0)
    distorted = [distort(image, images, random) for image in images]
    by_kind = {kind: embed([copies[kind] for copies, _ in distorted]) for kind in distorted[0][0]}
    return Photos([name for name, _ in photos], embed(images), by_kind, np.stack([beside for _, beside in distorted]))


def mixtures() -> dict[str, Weights]:
    """Members alone, and the combinations as indexes have them."""
    return {name: {name: 1.0} for name in MEMBERS} | {
        "color_sift": index_modalities("combo_color_sift", MEMBERS),
        "combo": index_modalities("combo_color_efficientnet_sift", MEMBERS),
    }


def measure_copies(photos: Photos) -> dict[str, Metric]:
    """Distorted copies found: by each member, and by combinations."""
    metrics = {}
    for ending, apart in (("", False), ("_apart", True)):
        values = {name: float(found_copies(photos, weights, apart).mean()) for name, weights in mixtures().items()}
        aims = {"sift": 0.90, "combo": max(values[name] for name in MEMBERS) + 0.03}
        for name, value in values.items():
            metrics[f"{name}_copies_r1{ending}"] = Metric(value, aims.get(name), at_least=True)
    return metrics


def measure_distortions_of_sift(photos: Photos) -> dict[str, Metric]:
    """Copies that SIFT finds, of each distortion."""
    shares = dict(zip(photos.copies, found_copies(photos, {"sift": 1.0}, apart=False).mean(axis=0), strict=True))
    aims = {"q15": 0.95, "grey": 0.95, "third": 0.95}
    return {f"sift_copies_r1_{kind}": Metric(float(share), aims.get(kind), True) for kind, share in shares.items()}


def measure_classes(photos: Photos) -> dict[str, Metric]:
    """Photos of the same class found: by each member, and by combinations."""
    scores = {name: fuse(photos.originals, photos.originals, weights) for name, weights in mixtures().items()}
    values = {name: float(np.nanmean(precisions(found, photos.classes))) for name, found in scores.items()}
    aims = {"efficientnet": 0.64, "combo": max(values[name] for name in MEMBERS) - 0.005}
    broad = ["/".join(name.split("/")[:2]) for name in photos.classes]
    return {
        **{f"{name}_map": Metric(value, aims.get(name), at_least=True) for name, value in values.items()},
        "efficientnet_map_broad": Metric(float(np.nanmean(precisions(scores["efficientnet"], broad)))),
    }


def embed(images: list[Image.Image]) -> dict[str, Matrix]:
    """Embed photos in all modalities; a photo without keypoints gets a row of zeros."""
    pixels = [np.asarray(image) for image in images]
    embedders = create_embedders(MEMBERS, SETTINGS)
    return {name: np.nan_to_num(embedder.embed(pixels)) for name, embedder in embedders.items()}


def fuse(queries: dict[str, Matrix], photos: dict[str, Matrix], weights: Weights) -> Scores:
    """Return the weighted mean of the cosines: (queries, photos)."""
    products = (weight * (queries[name] @ photos[name].T) for name, weight in weights.items())
    return np.asarray(sum(products), np.float64)


def found_copies(photos: Photos, weights: Weights, apart: bool) -> NDArray[np.bool_]:
    """Return of which copies the original is the nearest: (photos, distortions).

    A collage shows three more photos, as large as its own: with these among the answers, a perfect search can but
    guess which one is asked for. With `apart` they are left out.
    """
    found = []
    for kind, copies in photos.copies.items():
        scores = fuse(copies, photos.originals, weights)
        if apart and kind == COLLAGE:
            right = scores.diagonal().copy()
            np.put_along_axis(scores, photos.beside, -np.inf, axis=1)
            np.fill_diagonal(scores, right)  # a photo may be drawn beside itself
        found.append(scores.argmax(axis=1) == np.arange(len(scores)))
    return np.stack(found, axis=1)


def precisions(scores: Scores, classes: list[str], k: int = 50) -> Scores:
    """Return the average precision at k of every photo as a query among all others; NaN if its class has no other."""
    labels = np.unique(classes, return_inverse=True)[1]
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    found = labels[np.argsort(-scores, axis=1)[:, : min(k, len(scores) - 1)]] == labels[:, None]
    relevant = (labels[:, None] == labels).sum(axis=1) - 1
    precision = np.cumsum(found, axis=1) / np.arange(1, found.shape[1] + 1)
    best = np.where(relevant > 0, np.minimum(relevant, k), np.nan)
    return np.asarray((precision * found).sum(axis=1) / best, np.float64)


def gain_of_combining(photos: Photos) -> tuple[float, float, list[float]]:
    """Choose colour's weight on one half of the queries, judge on the other, both ways.

    Returns the mean gain over the member that is best on the judged half, the lower end of its 95 % interval, and the
    weights chosen.
    """
    mixtures = [{"color": weight, "sift": 1 - weight} for weight in WEIGHTS]
    curves = np.stack(
        [precisions(fuse(photos.originals, photos.originals, mixture), photos.classes) for mixture in mixtures]
    )
    curves = curves[:, np.isfinite(curves[0])]
    half = np.random.default_rng(0).permutation(curves.shape[1]) % 2 == 0
    gains, chosen = [], []
    for choose, judge in ((half, ~half), (~half, half)):
        best = int(curves[:, choose].mean(axis=1).argmax())
        member = max((0, -1), key=lambda end: float(curves[end, judge].mean()))
        gains.append(curves[best, judge] - curves[member, judge])
        chosen.append(WEIGHTS[best])
    gain = np.concatenate(gains)
    random = np.random.default_rng(0)
    means = [gain[random.integers(len(gain), size=len(gain))].mean() for _ in range(2_000)]
    return float(gain.mean()), float(np.quantile(means, 0.025)), chosen


def judge_three(photos: Photos) -> tuple[float, float, Weights]:
    """Choose the weights of all modalities on one half of the photos, judge on the other, both ways, many times.

    Returns the mean gains over the member that is best on the judged half, in mAP and in copies found, and the mean of
    the weights chosen.
    """
    mixtures = [{name: float(name == member) for name in MEMBERS} for member in MEMBERS]
    mixtures += [
        {"color": color / 20, "sift": sift / 20, "efficientnet": 1 - (color + sift) / 20}
        for color in range(7)
        for sift in range(21 - color)
    ]
    alone = slice(len(MEMBERS))
    precise = np.stack(
        [precisions(fuse(photos.originals, photos.originals, each), photos.classes) for each in mixtures]
    )
    found = np.stack([found_copies(photos, each, apart=True).mean(axis=1) for each in mixtures])
    gains, chosen = [], []
    for seed in range(HALVINGS):
        half = np.random.default_rng(seed).permutation(len(photos.classes)) % 2 == 0
        for choose, judge in ((half, ~half), (~half, half)):
            means = np.nanmean(precise[:, choose], axis=1)
            allowed = means >= means[alone].max() - 0.002
            best = int(np.where(allowed, found[:, choose].mean(axis=1), -1).argmax())
            judged = np.nanmean(precise[:, judge], axis=1), found[:, judge].mean(axis=1)
            gains.append([values[best] - values[alone].max() for values in judged])
            chosen.append(mixtures[best])
    gain_map, gain_r1 = np.mean(gains, axis=0)
    weights = {name: round(float(np.mean([mixture[name] for mixture in chosen])), 3) for name in MEMBERS}
    return float(gain_map), float(gain_r1), weights


if __name__ == "__main__":
    main()
