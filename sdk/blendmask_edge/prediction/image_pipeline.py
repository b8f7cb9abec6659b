"""From an image to its instances in three stages: preprocess, inference, postprocess."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Callable, List, NamedTuple, Tuple

import numpy as np

from blendmask_edge.imaging import check_image, preprocess
from blendmask_edge.instances import Instances
from blendmask_edge.labels import Labels
from blendmask_edge.streaming.pipeline import Stage, Ticket

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.bundle.tensors import Outputs
    from blendmask_edge.imaging import ImageTransform
    from blendmask_edge.prediction.selection import Selection
    from blendmask_edge.runtimes.shared import SessionLease


class Timings(NamedTuple):
    """Duration of the stages of one call, in seconds. Masks are pasted on first use and not included.

    Attributes:
        preprocess: time to resize and pad the image.
        inference: time to run the graph, including the wait for calls of other threads.
        postprocess: time to scale, filter and sort the instances.
    """

    preprocess: float
    inference: float
    postprocess: float


class Preprocessed(NamedTuple):
    """A region of an image in the form of the network input.

    pixels: uint8 [1, H, W, 3].
    transform: from the region to the network input.
    corner: pixel (x0, y0) of the region's top left corner in the image.
    image_size: height and width of the image.
    """

    pixels: NDArray[np.uint8]
    transform: ImageTransform
    corner: Tuple[int, int]
    image_size: Tuple[int, int]


def untracked(instances: Instances, _: Ticket) -> Instances:
    """Return instances as they are: a stream without a tracker."""
    return instances


class ImagePipeline:
    """The stages of a bundle, one after the other for an image, or at the same time for the images of a stream.

    Args:
        manifest: input size and classes of the bundle.
        session: the loaded graph; several pipelines can share one.
    """

    def __init__(self, manifest: Manifest, session: SessionLease) -> None:
        self.session = session
        self.labels = Labels(manifest.classes, manifest.category_ids)
        self._manifest = manifest

    def share(self) -> ImagePipeline:
        """Return another pipeline with the same loaded graph."""
        return ImagePipeline(self._manifest, self.session.share())

    def run(
        self, image: NDArray[np.uint8], channels: str, selection: Selection, is_typical: bool = False
    ) -> Tuple[Instances, Timings]:
        """Predict one image.

        Args:
            image: (H, W, 3) uint8.
            channels: order of the channels, "rgb" or "bgr".
            selection: instances to return.
            is_typical: whether the image is one by which to choose among several runtimes.

        Returns:
            The instances, and the duration of each stage.
        """
        start = time.perf_counter()
        preprocessed = self._preprocess(image, channels, selection)
        before_inference = time.perf_counter()
        outputs = self.session.run(preprocessed.pixels, is_typical)
        after_inference = time.perf_counter()
        instances = self._postprocess(outputs, preprocessed, selection)
        end = time.perf_counter()
        return instances, Timings(before_inference - start, after_inference - before_inference, end - after_inference)

    def stages(
        self, channels: str, selection: Selection, track: Callable[[Instances, Ticket], Instances] = untracked
    ) -> List[Stage]:
        """Return the stages of a stream.

        Args:
            channels: order of the channels of the images, "rgb" or "bgr".
            selection: instances to return.
            track: gives the instances of each image their track ids.
        """

        def infer(ticket: Ticket) -> Tuple[Outputs, Preprocessed]:
            return self.session.run(ticket.value.pixels), ticket.value

        def postprocess(ticket: Ticket) -> Instances:
            outputs, preprocessed = ticket.value
            return self._postprocess(outputs, preprocessed, selection)

        return [
            Stage("preprocess", lambda ticket: self._preprocess(ticket.value, channels, selection)),
            Stage("inference", infer),
            Stage("postprocess", lambda ticket: track(postprocess(ticket), ticket)),
        ]

    def _preprocess(self, image: NDArray[np.uint8], channels: str, selection: Selection) -> Preprocessed:
        spec = self._manifest.input
        region, corner = selection.crop(check_image(image, channels))
        resized = preprocess(region, (spec.height, spec.width), spec.pad_value, channels)
        return Preprocessed(resized.image, resized.transform, corner, (image.shape[0], image.shape[1]))

    def _postprocess(self, outputs: Outputs, preprocessed: Preprocessed, selection: Selection) -> Instances:
        instances = Instances.from_outputs(outputs, preprocessed.transform, self.labels, selection.score_threshold)
        instances = selection.choose(instances)
        return instances if selection.roi is None else instances.shift(*preprocessed.corner, preprocessed.image_size)
