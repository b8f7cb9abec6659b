"""Copy-paste: instances of one image laid on another (Ghiasi et al., CVPR 2021, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blendmask_quantize.training.augment import AugmentedImage

LEAST_VISIBLE = 0.15
"""Share of an instance that pasted ones must leave visible; below it, the instance is ignored."""

_FEATHER = 0.7  # standard deviation in pixels of the soft rim, about that of a camera


@dataclass(frozen=True)
class Scene:
    """An augmented image and the meaning of its masks.

    Attributes:
        image: pixels and n masks.
        classes: (n,) int64, contiguous.
        ignored: (n,) bool, crowds and instances that are nearly hidden: no targets.
    """

    image: AugmentedImage
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def paste(scene: Scene, donor: Scene, chosen: NDArray[np.int64]) -> Scene:
    """Lay some instances of a donor on a scene, at the place they have in the donor.

    Masks beneath lose the covered pixels; instances of which less than `LEAST_VISIBLE` is left are ignored.

    Args:
        scene: what lies beneath.
        donor: an image of the same size.
        chosen: rows of the donor's instances; they follow the scene's own in the result.
    """
    pasted = donor.image.masks[chosen]
    cover = np.asarray(pasted.any(axis=0))
    beneath = scene.image.masks & ~cover
    hidden = beneath.sum(axis=(1, 2)) < LEAST_VISIBLE * scene.image.masks.sum(axis=(1, 2))
    return Scene(
        AugmentedImage(_blend(scene.image.pixels, donor.image.pixels, cover), np.concatenate([beneath, pasted])),
        np.concatenate([scene.classes, donor.classes[chosen]]),
        np.concatenate([scene.ignored | hidden, donor.ignored[chosen]]),
    )


def _blend(below: NDArray[np.uint8], above: NDArray[np.uint8], cover: NDArray[np.bool_]) -> NDArray[np.uint8]:
    share = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), _FEATHER)
    return np.asarray(cv2.blendLinear(above, below, share, 1 - share), np.uint8)
