"""How the losses against a teacher are weighted, as values that load no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DetectionWeights:
    """Factors of the losses that compare detections.

    Attributes:
        classes: divergence of the class probabilities at every location, over the number of the teacher's positives.
        centerness: divergence of the centerness at the teacher's positives.
        boxes: 1 - GIoU of the boxes there.
        masks: divergence of the blended masks in the teacher's detections.
    """

    classes: float = 1.0
    centerness: float = 1.0
    boxes: float = 1.0
    masks: float = 1.0


@dataclass(frozen=True)
class DistillWeights(DetectionWeights):
    """Factors of the losses against a teacher of the same architecture.

    Attributes:
        towers: squared distance of what the top layer reads at the teacher's positives, relative to the teacher's
            square.
        bases: squared distance of the bases everywhere, relative to their variance.
    """

    towers: float = 1.0
    bases: float = 1.0


@dataclass(frozen=True)
class StudentWeights(DetectionWeights):
    """Factors of the losses against a teacher of another architecture.

    Attributes:
        features: squared distance of each pyramid level and of the backbone's features of stride 4, relative to the
            variance of the teacher's; the mean over them.
    """

    features: float = 2.0
