"""Predictions of many images in plain values, whichever way they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

if TYPE_CHECKING:
    from blendmask_edge.imaging.rle import Rle
    from blendmask_edge.instances import Instances


@dataclass(frozen=True)
class Detection:
    """One instance.

    Attributes:
        class_name: name of its class.
        score: 0 to 1.
        box: x, y, width, height in pixels of the image.
        rle: mask as COCO RLE of the image.
    """

    class_name: str
    score: float
    box: Tuple[float, float, float, float]
    rle: Rle = field(repr=False)


@dataclass(frozen=True)
class PredictedImage:
    """An image and its detections.

    Attributes:
        size: height and width in pixels.
        detections: highest score first.
        file: the image itself; None if it is unknown.
    """

    size: Tuple[int, int]
    detections: Sequence[Detection]
    file: Optional[Path] = None


@dataclass(frozen=True)
class Predictions:
    """Predictions of images.

    Attributes:
        source: where they come from, in words.
        images: by name.
    """

    source: str
    images: Dict[str, PredictedImage]


def detections_of(instances: Instances) -> Sequence[Detection]:
    """Return instances as detections."""
    return [
        Detection(name, float(score), (x0, y0, x1 - x0, y1 - y0), rle)
        for name, score, (x0, y0, x1, y1), rle in zip(
            instances.class_names, instances.scores, instances.boxes.tolist(), instances.rles()
        )
    ]


def short_names(names: Sequence[str]) -> List[str]:
    """Return the names of files without their folders, where that tells them apart; else as they are."""
    short = [PurePath(name).name for name in names]
    return short if len(set(short)) == len(short) else list(names)
