"""How the losses against a teacher are weighted, as a value that loads no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DistillWeights:
    """Factor of each loss.

    Attributes:
        classes: divergence of the class probabilities at every location, over the number of the teacher's positives.
        centerness: divergence of the centerness at the teacher's positives.
        boxes: 1 - GIoU of the boxes there.
        towers: squared distance of what the top layer reads there, relative to the teacher's square.
        bases: squared distance of the bases everywhere, relative to their variance.
        masks: divergence of the blended masks in the teacher's detections.
    """

    classes: float = 1.0
    centerness: float = 1.0
    boxes: float = 1.0
    towers: float = 1.0
    bases: float = 1.0
    masks: float = 1.0
