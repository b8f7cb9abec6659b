"""Choose the score from which instances are worth showing, on annotated images.

Average precision counts the whole ranking, so a graph gives instances down to very low scores. A person who looks at
all of them sees mostly false alarms. The threshold for display is the one with the best F1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from blendmask_edge.evaluation.average_precision import match

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pycocotools.coco import COCO

    Floats = NDArray[np.float64]

_CANDIDATES = np.arange(5, 96) / 100


@dataclass(frozen=True)
class DisplayThreshold:
    """A score threshold and what it reaches, all 0..1: F1, precision and recall of masks at IoU 0.5."""

    score: float
    f1: float
    precision: float
    recall: float

    def metrics(self) -> Dict[str, float]:
        """Return what it reaches, by name."""
        return {"f1": self.f1, "precision": self.precision, "recall": self.recall}


def choose_display_threshold(
    coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int]
) -> Optional[DisplayThreshold]:
    """Return the threshold with the highest F1 of all classes together; None where no instance is found.

    Instances match as for AP: same class, mask IoU of 0.5 or more, each annotation once, crowds left out. Of
    thresholds with the same F1, the middle one is taken: it is the farthest from a change.

    Args:
        coco: the annotations.
        results: COCO results of the images, down to low scores.
        ids: which images.
    """
    if not results:
        return None
    true, false, annotated = _matched(coco, results, ids)
    if not len(true) or not annotated:
        return None
    least = min(result["score"] for result in results)
    thresholds = _CANDIDATES[least <= _CANDIDATES]
    hits, alarms = _count_from(true, thresholds), _count_from(false, thresholds)
    f1 = 2 * hits / (hits + alarms + annotated)
    if not f1.any():
        return None
    best = np.flatnonzero(f1 == f1.max())
    place = int(best[len(best) // 2])
    correct = hits[place]
    precision = float(correct / (correct + alarms[place]))
    return DisplayThreshold(float(thresholds[place]), float(f1[place]), precision, float(correct / annotated))


def _matched(coco: COCO, results: List[Dict[str, Any]], ids: Sequence[int]) -> Tuple[Floats, Floats, int]:
    """Return the scores of right and of wrong results, and the number of annotations that count."""
    evaluation = match(coco, results, ids, "mask")
    every_size = evaluation.params.areaRng[0]
    cells = [cell for cell in evaluation.evalImgs if cell is not None and cell["aRng"] == every_size]
    true: List[float] = []
    false: List[float] = []
    for cell in cells:
        for score, matched, ignored in zip(cell["dtScores"], cell["dtMatches"][0], cell["dtIgnore"][0]):
            if not ignored:
                (true if matched else false).append(score)
    annotated = sum(int(np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0)) for cell in cells)
    return np.array(true), np.array(false), annotated


def _count_from(scores: Floats, thresholds: Floats) -> NDArray[np.int64]:
    """Return how many scores reach each threshold."""
    return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left"), np.int64)
