"""The changes between two sets of predictions, and the one number to gate on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Mapping, Optional, Sequence, Tuple

from blendmask_edge.comparison.matching import mask_overlap, match
from blendmask_edge.errors import AnnotationError, RegressionError

if TYPE_CHECKING:
    from blendmask_edge.comparison.detections import Detection, PredictedImage, Predictions

APPEARED, VANISHED, MASK = "appeared", "vanished", "mask changed"
KINDS = (VANISHED, APPEARED, MASK)
SCORE_SLACK = 0.1
"""The like of an instance may score this much below the threshold, so that rounding next to it is not a change."""


@dataclass(frozen=True)
class Change:
    """One detection that is not as it was.

    Attributes:
        image: name of the image.
        kind: "vanished", "appeared" or "mask changed".
        before, after: the detection in each run; None in the one that lacks it.
        mask_iou: IoU of the two masks, 0 to 1; 0 if one run lacks the detection.
    """

    image: str
    kind: str
    before: Optional[Detection]
    after: Optional[Detection]
    mask_iou: float = 0.0

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return self._detections[0].class_name

    @property
    def severity(self) -> float:
        """How bad it is, 0 to 1: the score of a detection that one run lacks, else 1 - `mask_iou`, times the score."""
        return max(detection.score for detection in self._detections) * (1 - self.mask_iou)

    @property
    def _detections(self) -> List[Detection]:
        return [detection for detection in (self.before, self.after) if detection is not None]


@dataclass(frozen=True)
class Comparison:
    """Result of `compare`.

    Attributes:
        before, after: what was compared, in words.
        images: number of images.
        unchanged: number of instances that both runs have with about the same mask.
        changes: the others, the worst first.
        score_threshold: score from which instances count, 0 to 1.
        mask_iou: IoU below which a mask counts as changed, 0 to 1.
        files: image files by name, where they are known.
    """

    before: str
    after: str
    images: int
    unchanged: int
    changes: Tuple[Change, ...]
    score_threshold: float
    mask_iou: float
    files: Mapping[str, Path]

    @property
    def instances(self) -> int:
        """Number of instances of both runs together, one that both have counted once."""
        return self.unchanged + len(self.changes)

    @property
    def changed_share(self) -> float:
        """Share of the instances that changed, 0 to 1; the number to gate on. 0 if neither run has an instance."""
        return len(self.changes) / self.instances if self.instances else 0.0

    def count(self, kind: str) -> int:
        """Return how many changes are of a kind: "vanished", "appeared" or "mask changed"."""
        return sum(change.kind == kind for change in self.changes)

    def by_image(self) -> Dict[str, List[Change]]:
        """Return the changes by image, the image with the worst change first."""
        images: Dict[str, List[Change]] = {}
        for change in self.changes:
            images.setdefault(change.image, []).append(change)
        return images

    def summary(self) -> str:
        """Return one sentence."""
        counts = ", ".join(f"{self.count(kind)} {kind}" for kind in KINDS)
        return f"{len(self.changes)} of {self.instances} instances changed ({self.changed_share:.2%}): {counts}"

    def require_at_most(self, share: float) -> None:
        """Check that no more than a share of the instances changed.

        Args:
            share: 0 to 1.

        Raises:
            RegressionError: more changed; the message counts them.
        """
        if self.changed_share > share:
            raise RegressionError(
                f"{self.summary()}; at most {share:.4g} ({share:.2%}) may change. Look at the changed images, then "
                "find the cause or allow more with --max-changed."
            )


def compare_predictions(before: Predictions, after: Predictions, score_threshold: float, mask_iou: float) -> Comparison:
    """Hold two sets of predictions of the same images against each other.

    Args:
        before, after: may reach `SCORE_SLACK` below the threshold.
        score_threshold: instances count from here on, 0 to 1.
        mask_iou: a mask with less overlap counts as changed, 0 to 1.

    Raises:
        AnnotationError: they are of other images, or of other sizes of them.
    """
    _require_same_images(before, after)
    unchanged, changes = 0, []
    for name, image in before.images.items():
        same, changed = _compare_image(name, image, after.images[name], score_threshold, mask_iou)
        unchanged += same
        changes += changed
    changes.sort(key=lambda change: -change.severity)
    files = {name: image.file or after.images[name].file for name, image in before.images.items()}
    known = {name: file for name, file in files.items() if file is not None}
    return Comparison(
        before.source, after.source, len(before.images), unchanged, tuple(changes), score_threshold, mask_iou, known
    )


def _compare_image(
    name: str, before: PredictedImage, after: PredictedImage, threshold: float, mask_iou: float
) -> Tuple[int, List[Change]]:
    """Return how many instances are as before, and the changes."""
    first, second = (_at_least(threshold - SCORE_SLACK, image.detections) for image in (before, after))
    pairs = match(first, second)
    changes = [
        Change(name, MASK, first[row], second[column], mask_overlap(first[row], second[column]))
        for row, column in pairs
        if max(first[row].score, second[column].score) >= threshold
    ]
    bent = [change for change in changes if change.mask_iou < mask_iou]
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    vanished = [Change(name, VANISHED, one, None) for row, one in enumerate(first) if row not in rows]
    new = [Change(name, APPEARED, None, one) for column, one in enumerate(second) if column not in columns]
    alone = [change for change in vanished + new if change.severity >= threshold]
    return len(changes) - len(bent), bent + alone


def _at_least(score: float, detections: Sequence[Detection]) -> List[Detection]:
    return [detection for detection in detections if detection.score >= score]


def _require_same_images(before: Predictions, after: Predictions) -> None:
    for one, other in ((before, after), (after, before)):
        missing = [name for name in one.images if name not in other.images]
        if missing:
            raise AnnotationError(
                f"{other.source} lacks {len(missing)} of the {len(one.images)} images of {one.source}, e.g. "
                f"{missing[0]!r}. Compare predictions of the same images."
            )
    for name, image in before.images.items():
        sizes = [f"{side.size[1]} x {side.size[0]}" for side in (image, after.images[name])]
        if sizes[0] != sizes[1]:
            raise AnnotationError(
                f"{name!r} is {sizes[0]} pixels in {before.source} and {sizes[1]} in {after.source}. Compare "
                "predictions of the same images."
            )
