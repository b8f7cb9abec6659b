"""Image in, instances out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, Optional

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import ClosedError, ConfigError
from blendmask_edge.imaging import preprocess
from blendmask_edge.instances import Instances, Labels
from blendmask_edge.runtimes.auto_select import open_session
from blendmask_edge.runtimes.registry import AUTO, Session, SessionOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.storage.atomic import PathLike


class Timings(NamedTuple):
    """Seconds of one call: fitting the image, the network, making instances. Masks are pasted later, on use."""

    preprocess: float
    inference: float
    postprocess: float


class MaskPredictor:
    """Predict instance masks by a bundle.

        with MaskPredictor("kitchen.bmz") as predictor:
            instances = predictor(image)

    One predictor serves one thread at a time.

    Attributes:
        manifest: what the bundle says of itself.
        runtime: name of the runtime in use.
        variant: name of the graph in use.
        timings: `Timings` of the last call; zeros before the first.
    """

    def __init__(
        self,
        path: PathLike,
        runtime: str = AUTO,
        threads: Optional[int] = None,
        score_threshold: Optional[float] = None,
        variant: Optional[str] = None,
    ) -> None:
        """Open a bundle and load its graph.

        Args:
            path: the .bmz file.
            runtime: a name of `blendmask_edge.runtimes.registry.RUNTIMES`, or "auto" for the quickest that is
                installed. Where several can run the bundle, the first call on a machine tries each for a moment and
                remembers the quickest in the cache folder (`$BLENDMASK_CACHE`, else `~/.cache/blendmask-edge`).
            threads: threads within an operator; None leaves the choice to the runtime.
            score_threshold: least final score, 0..1; None takes the manifest's, below which the graph gives nothing.
            variant: graph to run; None takes the runtime's preferred one that the bundle holds.

        Raises:
            BundleError: the file is no sound bundle or has no such graph.
            RuntimeUnavailableError: the runtime is not installed, or finds no device.
            InferenceError: the runtime refuses the graph.
            ConfigError: an unknown runtime, or a number out of range.
        """
        _check_options(threads, score_threshold)
        bundle = Bundle.open(path)
        opened = open_session(bundle, runtime, variant, SessionOptions(threads))
        self.manifest: Manifest = bundle.manifest
        self.runtime = opened.runtime
        self.variant = opened.variant
        self.timings = Timings(0.0, 0.0, 0.0)
        self._threshold = self.manifest.score_threshold if score_threshold is None else score_threshold
        self._labels = Labels(self.manifest.classes, self.manifest.category_ids)
        self._session: Optional[Session] = opened.session

    def __call__(self, image: NDArray[np.uint8], channels: str = "rgb") -> Instances:
        """Find the instances in one image.

        Args:
            image: (H, W, 3) uint8, of any size.
            channels: "rgb", or "bgr" for OpenCV frames.

        Raises:
            ImageError: the array is no such image.
            InferenceError: the runtime failed.
            ClosedError: the predictor was closed.
        """
        if self._session is None:
            raise ClosedError("The predictor is closed; open a new MaskPredictor.")
        start = time.perf_counter()
        spec = self.manifest.input
        prepared = preprocess(image, (spec.height, spec.width), spec.pad_value, channels)
        after_prepare = time.perf_counter()
        outputs = self._session.run(prepared.image)
        after_run = time.perf_counter()
        instances = Instances.from_outputs(
            outputs,
            scale=(prepared.scale_x, prepared.scale_y),
            image_size=(image.shape[0], image.shape[1]),
            labels=self._labels,
            score_threshold=self._threshold,
        )
        self.timings = Timings(after_prepare - start, after_run - after_prepare, time.perf_counter() - after_run)
        return instances

    def close(self) -> None:
        """Release the runtime; closing twice does no harm."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> MaskPredictor:
        """Return the predictor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the predictor."""
        self.close()


def _check_options(threads: Optional[int], score_threshold: Optional[float]) -> None:
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more; leave it out to let the runtime choose.")
    if score_threshold is not None and not 0 <= score_threshold <= 1:
        raise ConfigError(f"The score threshold is {score_threshold}, expected 0 to 1.")
