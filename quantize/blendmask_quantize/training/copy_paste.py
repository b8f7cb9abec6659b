"""Copy-paste: instances of one view laid on another (Ghiasi et al., CVPR 2021, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from blendmask_quantize.training.augment import View

LEAST_VISIBLE = 0.15
"""Share of an object that pasted ones must leave free, or it is not asked for any more."""

_FEATHER = 0.7  # standard deviation in pixels of the soft rim, about that of a camera


@dataclass(frozen=True)
class Scene:
    """A view and what its masks are.

    Attributes:
        view: pixels and n masks.
        classes: (n,) int64, contiguous.
        ignored: (n,) bool, crowds and what is nearly hidden: not asked for.
    """

    view: View
    classes: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def paste(scene: Scene, donor: Scene, chosen: NDArray[np.int64]) -> Scene:
    """Lay some instances of a donor on a scene, where they are in the donor's view.

    Masks beneath lose the covered pixels; instances of which less than `LEAST_VISIBLE` is left are ignored.

    Args:
        scene: what lies beneath.
        donor: a view of the same size.
        chosen: rows of the donor's instances; they follow the scene's own in the result.
    """
    pasted = donor.view.masks[chosen]
    cover = np.asarray(pasted.any(axis=0))
    beneath = scene.view.masks & ~cover
    hidden = beneath.sum(axis=(1, 2)) < LEAST_VISIBLE * scene.view.masks.sum(axis=(1, 2))
    return Scene(
        View(_blend(scene.view.pixels, donor.view.pixels, cover), np.concatenate([beneath, pasted])),
        np.concatenate([scene.classes, donor.classes[chosen]]),
        np.concatenate([scene.ignored | hidden, donor.ignored[chosen]]),
    )


def _blend(below: NDArray[np.uint8], above: NDArray[np.uint8], cover: NDArray[np.bool_]) -> NDArray[np.uint8]:
    share = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), _FEATHER)
    return np.asarray(cv2.blendLinear(above, below, share, 1 - share), np.uint8)
