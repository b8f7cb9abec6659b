"""Predictions on many images: the one loop over them, and its COCO results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List

from blendmask_edge.instances import Instances

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.evaluation.annotations import AnnotatedImages

Predictor = Callable[["NDArray[np.uint8]"], Instances]
"""An image (H, W, 3) uint8 RGB to its instances; a `MaskPredictor` is one."""
OnImage = Callable[[], None]
Results = List[Dict[str, Any]]
"""COCO results, as `Instances.to_coco` makes them."""


def ignore() -> None:
    """Do nothing after an image."""


def predict_images(
    predict: Predictor, images: Iterable[NDArray[np.uint8]], on_image: OnImage = ignore
) -> Iterator[Instances]:
    """Yield the instances of each image.

    Args:
        predict: image to instances.
        images: (H, W, 3) uint8 RGB.
        on_image: called after each image.
    """
    for image in images:
        instances = predict(image)
        on_image()
        yield instances


def coco_results(instances: Iterable[Instances], ids: Iterable[int]) -> Results:
    """Return the COCO results of images.

    Args:
        instances: of each image; none is kept, which lets an iterator be as long as it likes.
        ids: of the images.
    """
    return [result for detections, image_id in zip(instances, ids) for result in detections.to_coco(image_id)]


def predict_annotated(predict: Predictor, images: AnnotatedImages, on_image: OnImage = ignore) -> Results:
    """Return the COCO results of annotated images, each read when its turn comes.

    Args:
        predict: image to instances.
        images: annotated.
        on_image: called after each image.

    Raises:
        AnnotationError, ImageError: as `AnnotatedImages.read`.
    """
    return coco_results(predict_images(predict, map(images.read, images.ids), on_image), images.ids)
