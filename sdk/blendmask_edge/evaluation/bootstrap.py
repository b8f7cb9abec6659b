"""How sure an average precision is: intervals by a bootstrap over images.

Images are drawn with replacement as often as there are, and AP is computed of each draw; the spread of these APs is
how far another set of such images might have moved the result (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, percentile intervals). Predictors that are compared are given the same draws, so that their ratio is
free of what the images do to both.

COCO matches within one image and class. So it is done once, and a draw only repeats and leaves out what was matched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Sequence, Tuple

import numpy as np

from blendmask_edge.evaluation.average_precision import IOU_TYPES, average_precisions, match

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pycocotools.coco import COCO

    Counts = NDArray[np.int64]
    Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True)
class Matches:
    """COCO's matches of every detection of a predictor, which give the AP of any sample of the images.

    task: "mask" or "box".
    classes: names of the K classes that the annotations show; the others have no AP, however many there are.
    strata: what was matched by class and size.
    sizes: number of sizes.
    thresholds: (R,) recalls at which precision is read.
    overlaps: number T of overlaps at which it was matched.
    """

    task: str
    classes: Sequence[str]
    strata: Sequence[Sequence[_Stratum]]
    sizes: int
    thresholds: Floats
    overlaps: int

    @classmethod
    def of(cls, coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int], task: str = "mask") -> Matches:
        """Match COCO results on the images `ids`; `counts` of a draw are in the order of these."""
        matched = match(coco, results, ids, task)
        params, images = matched.params, len(matched.params.imgIds)
        names = [coco.cats[category]["name"] for category in params.catIds]
        per_stratum = [matched.evalImgs[start : start + images] for start in range(0, len(matched.evalImgs), images)]
        sizes, overlaps = len(params.areaRng), len(params.iouThrs)
        strata = [_Stratum.of(evaluated, overlaps) for evaluated in per_stratum]
        by_class = zip(names, (strata[start : start + sizes] for start in range(0, len(strata), sizes)))
        shown = [(name, row) for name, row in by_class if any(stratum.annotated.any() for stratum in row)]
        names, rows = [name for name, _ in shown], [row for _, row in shown]
        return cls(task, names, rows, sizes, np.asarray(params.recThrs), overlaps)

    def metrics(self, counts: Counts) -> Dict[str, float]:
        """Return what `accuracy.score` would of images drawn `counts` (I,) times each, neighbors when repeated."""
        precision = -np.ones((self.overlaps, len(self.thresholds), len(self.classes), self.sizes))
        for index, row in enumerate(self.strata):
            for size, stratum in enumerate(row):
                stratum.fill(precision[:, :, index, size], counts, self.thresholds)
        return average_precisions(precision, self.classes, self.task)

    def distribution(self, draws: Counts, on_draw: Callable[[], None] = lambda: None) -> Dict[str, Floats]:
        """Return each metric (B,) on `draws` (B, I), NaN where a draw does not show the class or size.

        Args:
            draws: how often each image is drawn.
            on_draw: called after each draw.
        """
        per_draw: List[Dict[str, float]] = []
        known: Dict[bytes, Dict[str, float]] = {}
        for counts in draws:
            key = counts.tobytes()
            if key not in known:  # of few images, few draws differ
                known[key] = self.metrics(counts)
            per_draw.append(known[key])
            on_draw()
        names = dict.fromkeys(name for metrics in known.values() for name in metrics)
        return {name: np.array([metrics.get(name, np.nan) for metrics in per_draw]) for name in names}


def draw_images(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Counts:
    """Return how often each image is drawn, (resamples, images); each row sums to `images`."""
    chances = np.full(images, 1 / images)
    return np.asarray(np.random.default_rng(seed).multinomial(images, chances, resamples), np.int64)


def interval(values: Floats, level: float = LEVEL) -> Tuple[float, float]:
    """Return low and high of the middle `level` of values (B,), NaNs left out; NaN where there is nothing else."""
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def score_intervals(
    coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int], resamples: int, seed: int = 0
) -> Dict[str, float]:
    """Return `mask_ap_low`, `mask_ap_high`, `box_ap_low` and `box_ap_high`, between which `LEVEL` of the draws lie.

    Args:
        coco: the annotations.
        results: COCO results of the images.
        ids: which images, ascending.
        resamples: number of draws.
        seed: of the draws.
    """
    ends: Dict[str, float] = {}
    draws = draw_images(len(ids), resamples, seed)
    for task in IOU_TYPES:
        low, high = interval(Matches.of(coco, results, ids, task).distribution(draws)[f"{task}_ap"])
        ends.update({f"{task}_ap_low": low, f"{task}_ap_high": high})
    return ends


def ratio(values: Floats, base: Floats) -> Floats:
    """Return `values / base` (B,) draw by draw, NaN where the base is 0."""
    return np.asarray(np.divide(values, base, out=np.full(len(base), np.nan), where=base > 0), np.float64)


@dataclass(frozen=True)
class _Stratum:
    """One class and size: detections that count, of all images, by descending score.

    Those of equal score in one image are a block, which is repeated as a whole when its image is.

    true, false: (T, N) bool, whether a detection is right or wrong at each overlap; neither where it is ignored.
    start, length, image: (B,) of each block its first detection, how many, and the place of its image.
    annotated: (I,) instances that count in each image.
    """

    true: NDArray[np.bool_]
    false: NDArray[np.bool_]
    start: Counts
    length: Counts
    image: Counts
    annotated: Counts

    @classmethod
    def of(cls, evaluated: Sequence[Any], overlaps: int) -> _Stratum:
        """Take `COCOeval.evalImgs` of one class and size, None for an image that shows and finds nothing."""
        annotated = np.array([0 if one is None else np.count_nonzero(one["gtIgnore"] == 0) for one in evaluated])
        evaluated_images = [(place, one) for place, one in enumerate(evaluated) if one is not None]
        empty = np.zeros((overlaps, 0), np.bool_)
        ignored = np.concatenate([empty, *(one["dtIgnore"].astype(np.bool_) for _, one in evaluated_images)], axis=1)
        matched = np.concatenate([empty, *(one["dtMatches"].astype(np.bool_) for _, one in evaluated_images)], axis=1)
        scores = np.array([score for _, one in evaluated_images for score in one["dtScores"]], np.float64)
        images = np.array([place for place, one in evaluated_images for _ in one["dtScores"]], np.int64)
        counts = np.flatnonzero(~ignored.all(axis=0))
        order = counts[np.argsort(-scores[counts], kind="stable")]
        return cls(
            (matched & ~ignored)[:, order], (~matched & ~ignored)[:, order], *_blocks(scores[order], images[order]),
            annotated,
        )  # fmt: skip

    def fill(self, precision: Floats, counts: Counts, thresholds: Floats) -> None:
        """Write precision (T, R) of a draw as `COCOeval.accumulate` has it; leave it where nothing is annotated."""
        annotated = int(counts @ self.annotated)
        if annotated == 0:
            return
        order = self._order_of(counts)
        true = np.cumsum(self.true[:, order], axis=1, dtype=np.float64)
        false = np.cumsum(self.false[:, order], axis=1, dtype=np.float64)
        reached = true / annotated
        exact = true / (false + true + np.spacing(1))
        best = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
        for row, recalls, at in zip(precision, reached, best):
            places = np.searchsorted(recalls, thresholds, side="left")
            count = np.count_nonzero(places < len(order))
            row[:count], row[count:] = at[places[:count]], 0

    def _order_of(self, counts: Counts) -> Counts:
        """Return the detections of a draw by descending score, blocks repeated."""
        lengths = self.length * counts[self.image]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return np.asarray(np.repeat(self.start, lengths) + within % np.repeat(self.length, lengths), np.int64)


def _blocks(scores: Floats, images: Counts) -> Tuple[Counts, Counts, Counts]:
    """Return first detection, length and image of each block of equal score and image."""
    begins = np.ones(len(scores), np.bool_)
    begins[1:] = (scores[1:] != scores[:-1]) | (images[1:] != images[:-1])
    start = np.flatnonzero(begins)
    return start, np.diff(start, append=len(scores)), images[start]
