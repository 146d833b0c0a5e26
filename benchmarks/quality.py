"""How well searching finds what it should: `python -m benchmarks.quality [--quick]`.

Photos: Debian's tuxpaint-stamps-default (drawings, symbols, flags left out) and the photos that installed packages
ship. No codebook was made from any of them. Two sets: all, and (large_…) without the stamps under 128 pixels, half of
all. Exact search throughout: this measures vectors, not graphs.

sift_copies_r1, color_…, …        share of distorted copies whose original is the nearest of all originals, mean over
                                  fourteen distortions made with fixed seeds; of the four photos in a collage the three
                                  others do not count
sift_copies_r1_nine, …            the same of the first nine distortions, and the three others do count
sift_copies_r1_q15, …             the same of one distortion
efficientnet_map, color_…, …      class retrieval, mAP@50, every photo as the query among all others. Classes are Tux
                                  Paint's own categories, the outermost folders (animals, food, …); the mean is over the
                                  right ones among the 50, as in torchmetrics' RetrievalMAP(top_k=50)
efficientnet_map_strict, …        the same where classes are the innermost folders (animals/mammals/deer), and the mean
                                  is over all that should be among the 50
color_sift_map, combo_map, …      both of colour and sift combined, all three combined
color_sift_gain_low               color_sift minus its best member in mAP on the half of the photos that the weight was
                                  not chosen on, both ways: lower end of the bootstrap 95 % interval
combo_judged_map, …_r1            all three minus the best of them, where the weights are those that find most copies on
                                  the other half of the photos without losing 0.002 of mAP there; mean over thirty ways
                                  of halving
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.harness import Metric, report, wants_quick
from benchmarks.quality_photos import NINE, load_photos
from imgrec.embedders.catalogue import create_embedders
from imgrec.search.evaluation.distortions import COLLAGE, DISTORTIONS, OTHERS_IN_A_COLLAGE, distort
from imgrec.search.fusion import index_modalities

SETS = {"": 0, "large_": 128}
SETTINGS = {"bins": [8, 8, 8], "decode_min_side": 448, "sift_codebook": "default"}
MEMBERS = ("color", "sift", "efficientnet")
WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
HALVINGS = 30

Matrix = NDArray[np.float32]
Scores = NDArray[np.float64]
Weights = dict[str, float]


@dataclass(frozen=True)
class Photos:
    """Photos' folders and vectors, those of their copies by distortion, and what else each collage shows: (N, 3)."""

    folders: list[str]
    originals: dict[str, Matrix]
    copies: dict[str, dict[str, Matrix]]
    beside: NDArray[np.int64]

    @property
    def categories(self) -> list[str]:
        """The outermost folders."""
        return [folder.split("/")[0] for folder in self.folders]


def main() -> None:
    """Measure, print."""
    step = 6 if wants_quick(__doc__) else 1
    metrics: dict[str, Metric] = {}
    details: dict[str, str] = {}
    for prefix, smallest_side in SETS.items():
        photos = describe(load_photos(smallest_side)[::step])
        found = measure_copies(photos) | measure_sift(photos, third_counts=smallest_side > 0) | measure_classes(photos)
        judged_map, judged_r1, weights = judge_three(photos)
        found["combo_judged_map"] = Metric(judged_map, -0.005, at_least=True)
        found["combo_judged_r1"] = Metric(judged_r1, 0.03, at_least=True)
        gain, low, chosen = gain_of_combining(photos)
        found |= {"color_sift_gain": Metric(gain), "color_sift_gain_low": Metric(low, 0.0, at_least=True)}
        details[f"{prefix}photos"] = str(len(photos.folders))
        details[f"{prefix}weights chosen on halves, mean"] = str(weights)
        details[f"{prefix}weights of color beside sift, chosen on halves"] = str(chosen)
        metrics |= {f"{prefix}{name}": metric for name, metric in found.items()}
    report("quality", metrics, details)


def describe(photos: list[tuple[str, Image.Image]]) -> Photos:
    """Embed photos and their copies."""
    images = [image for _, image in photos]
    random = np.random.default_rng(0)
    beside, distorted = [], []
    for image in images:
        beside.append(random.choice(len(images), OTHERS_IN_A_COLLAGE, replace=False))
        distorted.append(distort(image, [images[place] for place in beside[-1]], random))
    by_kind = {kind: embed([copies[kind] for copies in distorted]) for kind in DISTORTIONS}
    return Photos([name for name, _ in photos], embed(images), by_kind, np.stack(beside))


def mixtures() -> dict[str, Weights]:
    """Members alone, and the combinations as indexes have them."""
    return {name: {name: 1.0} for name in MEMBERS} | {
        "color_sift": index_modalities("combo_color_sift", MEMBERS),
        "combo": index_modalities("combo_color_efficientnet_sift", MEMBERS),
    }


def measure_copies(photos: Photos) -> dict[str, Metric]:
    """Distorted copies found: by each member, and by combinations."""
    values = {name: float(found_copies(photos, weights).mean()) for name, weights in mixtures().items()}
    aims = {"combo": max(values[name] for name in MEMBERS) + 0.03}
    return {f"{name}_copies_r1": Metric(value, aims.get(name), at_least=True) for name, value in values.items()}


def measure_sift(photos: Photos, third_counts: bool) -> dict[str, Metric]:
    """Copies of the nine distortions found among all originals: by all, and of each distortion by SIFT.

    A third of a stamp of 30 pixels is no picture: whether small ones are left out, `third_counts` says.
    """
    found = {name: found_copies(photos, weights, NINE, apart=False) for name, weights in mixtures().items()}
    aims = {"sift": 0.9, "q15": 0.95, "grey": 0.95} | ({"third": 0.95} if third_counts else {})
    shares = {f"{name}_copies_r1_nine": (float(values.mean()), aims.get(name)) for name, values in found.items()}
    for kind, share in zip(NINE, found["sift"].mean(axis=0), strict=True):
        shares[f"sift_copies_r1_{kind}"] = float(share), aims.get(kind)
    return {name: Metric(share, aim, at_least=True) for name, (share, aim) in shares.items()}


def measure_classes(photos: Photos) -> dict[str, Metric]:
    """Photos of the same class found: by each member, and by combinations."""
    scores = {name: fuse(photos.originals, photos.originals, weights) for name, weights in mixtures().items()}
    values = {name: float(np.nanmean(precisions(found, photos.categories))) for name, found in scores.items()}
    strict = {name: float(np.nanmean(precisions(found, photos.folders, strict=True))) for name, found in scores.items()}
    aims = {"efficientnet": 0.64, "combo": max(values[name] for name in MEMBERS) - 0.005}
    return {
        **{f"{name}_map": Metric(value, aims.get(name), at_least=True) for name, value in values.items()},
        **{f"{name}_map_strict": Metric(value) for name, value in strict.items()},
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


def found_copies(photos: Photos, weights: Weights, kinds: Sequence[str] = (), apart: bool = True) -> NDArray[np.bool_]:
    """Return of which copies the original is the nearest: (photos, kinds of distortion; by default all).

    A collage shows three more photos, as large as its own: with these among the answers, a perfect search can but
    guess which one is asked for. With `apart` they are left out.
    """
    found = []
    for kind in kinds or photos.copies:
        scores = fuse(photos.copies[kind], photos.originals, weights)
        if apart and kind == COLLAGE:
            right = scores.diagonal().copy()
            np.put_along_axis(scores, photos.beside, -np.inf, axis=1)
            np.fill_diagonal(scores, right)  # a photo may be drawn beside itself
        found.append(scores.argmax(axis=1) == np.arange(len(scores)))
    return np.stack(found, axis=1)


def precisions(scores: Scores, classes: list[str], k: int = 50, strict: bool = False) -> Scores:
    """Return the average precision at k of every photo as a query among all others; NaN if its class has no other.

    The mean of the precisions at the right ones among the k, 0 where there are none; with `strict`, those that are
    missing count as 0 each.
    """
    labels = np.unique(classes, return_inverse=True)[1]
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    right = labels[np.argsort(-scores, axis=1)[:, : min(k, len(scores) - 1)]] == labels[:, None]
    relevant = (labels[:, None] == labels).sum(axis=1) - 1
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    counted = np.minimum(relevant, k) if strict else np.maximum(right.sum(axis=1), 1)
    return np.asarray((precision * right).sum(axis=1) / np.where(relevant > 0, counted, np.nan), np.float64)


def gain_of_combining(photos: Photos) -> tuple[float, float, list[float]]:
    """Choose colour's weight on one half of the queries, judge on the other, both ways.

    Returns the mean gain over the member that is best on the judged half, the lower end of its 95 % interval, and the
    weights chosen.
    """
    mixtures = [{"color": weight, "sift": 1 - weight} for weight in WEIGHTS]
    curves = np.stack(
        [precisions(fuse(photos.originals, photos.originals, mixture), photos.categories) for mixture in mixtures]
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
        [precisions(fuse(photos.originals, photos.originals, each), photos.categories) for each in mixtures]
    )
    found = np.stack([found_copies(photos, each).mean(axis=1) for each in mixtures])
    gains, chosen = [], []
    for seed in range(HALVINGS):
        half = np.random.default_rng(seed).permutation(len(photos.folders)) % 2 == 0
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
