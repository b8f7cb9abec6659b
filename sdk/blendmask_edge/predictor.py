"""Image in, instances out."""

from __future__ import annotations

import os
import threading
import time
from numbers import Integral, Real
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np

from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.errors import ConfigError
from blendmask_edge.imaging import preprocess
from blendmask_edge.instances import Instances, Labels
from blendmask_edge.runtimes.auto_select import open_session
from blendmask_edge.runtimes.registry import AUTO, SessionOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.storage.atomic import PathLike

_MOST_WARM_UP_FRAMES = 10_000


class Timings(NamedTuple):
    """Seconds of the stages of one call. Masks are pasted later, on use, and not counted.

    preprocess: resize and pad the image.
    inference: run the graph; includes waiting for calls of other threads.
    postprocess: scale, filter and sort the instances.
    """

    preprocess: float
    inference: float
    postprocess: float


class MaskPredictor:
    """Predict instance masks with the graph of a bundle.

    One predictor serves any number of threads: each call returns the instances of its own image. The network runs one
    image at a time.

    Attributes:
        manifest: the manifest of the bundle.

    Example:
        with MaskPredictor("kitchen.bmz") as predictor:
            instances = predictor(image)
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
            runtime: "onnxruntime", "openvino", "tensorrt", "torch_tensorrt", or "auto" for the quickest that is
                installed. Where several can run the bundle, "auto" loads each, times them for about a second on the
                first frame that shows instances, keeps the quickest and remembers it for 30 days in the cache folder
                (`$BLENDMASK_CACHE`, else `~/.cache/blendmask-edge`). `warm_up` with an image times them there and then.
            threads: threads within an operator, 1 to 256; None leaves the choice to the runtime.
            score_threshold: least final score, 0 to 1. None takes the bundle's `display_threshold`, which suits people
                who look at the result; 0 takes all that the graph gives, as average precision needs.
            variant: graph to run; None takes the runtime's preferred one that the bundle holds.

        Raises:
            BundleError: the file is not a sound bundle, or has no such graph.
            RuntimeUnavailableError: the runtime is not installed, or finds no device.
            InferenceError: the runtime refuses the graph, or the graph is not as the manifest states.
            ConfigError: an argument has a wrong type, is out of range, or names an unknown runtime.
        """
        _check_arguments(path, runtime, score_threshold, variant)
        options = SessionOptions(threads)
        bundle = Bundle.open(path)
        self.manifest: Manifest = bundle.manifest
        self._session = open_session(bundle, runtime, variant, options)
        self._threshold = self.manifest.display_threshold if score_threshold is None else float(score_threshold)
        self._labels = Labels(self.manifest.classes, self.manifest.category_ids)
        self._last = threading.local()

    @property
    def runtime(self) -> str:
        """Name of the runtime in use; with "auto" it may change at the first frame that shows instances."""
        return self._session.runtime

    @property
    def variant(self) -> str:
        """Name of the graph in use."""
        return self._session.variant

    @property
    def timings(self) -> Timings:
        """Seconds of the last call that this thread made; zeros before its first."""
        last: Timings = getattr(self._last, "timings", Timings(0.0, 0.0, 0.0))
        return last

    def __call__(self, image: NDArray[np.uint8], channels: str = "rgb") -> Instances:
        """Predict the instances in one image.

        Args:
            image: (H, W, 3) uint8, of any size.
            channels: "rgb", or "bgr" for OpenCV frames.

        Raises:
            ImageError: the array is not such an image.
            InferenceError: the runtime failed, or returned values that no instance has.
            ClosedError: the predictor was closed.
        """
        return self._predict(image, channels)

    def _predict(self, image: NDArray[np.uint8], channels: str, is_typical: bool = False) -> Instances:
        start = time.perf_counter()
        spec = self.manifest.input
        preprocessed = preprocess(image, (spec.height, spec.width), spec.pad_value, channels)
        before_inference = time.perf_counter()
        outputs = self._session.run(preprocessed.image, is_typical)
        after_inference = time.perf_counter()
        instances = Instances.from_outputs(outputs, preprocessed.transform, self._labels, self._threshold)
        end = time.perf_counter()
        self._last.timings = Timings(
            before_inference - start, after_inference - before_inference, end - after_inference
        )
        return instances

    def warm_up(self, frames: int = 1, image: Optional[NDArray[np.uint8]] = None) -> None:
        """Run the network before the first frame counts, so that memory and threads are ready.

        Args:
            frames: how often, 1 or more.
            image: (H, W, 3) uint8, a typical frame, on which runtime="auto" makes its choice now instead of on a frame
                of the camera; None takes a blank one, which decides nothing.

        Raises:
            ConfigError: `frames` is not an integer, or out of range.
            ImageError, InferenceError, ClosedError: as a call.
        """
        is_count = isinstance(frames, Integral) and not isinstance(frames, bool)
        if not is_count or not 1 <= frames <= _MOST_WARM_UP_FRAMES:
            raise ConfigError(f"frames is {frames!r}, expected an integer from 1 to {_MOST_WARM_UP_FRAMES}.")
        spec = self.manifest.input
        frame = np.zeros((spec.height, spec.width, 3), np.uint8) if image is None else image
        for _ in range(frames):
            self._predict(frame, "rgb", is_typical=image is not None)

    def close(self) -> None:
        """Release the runtime, after the call that another thread is in; closing twice does no harm."""
        self._session.close()

    def __enter__(self) -> MaskPredictor:
        """Return the predictor itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the predictor."""
        self.close()


def _check_arguments(path: object, runtime: object, score_threshold: object, variant: object) -> None:
    location = path.__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(location, str):
        raise ConfigError(f"path is {path!r}, expected str or pathlib.Path. Decode bytes by os.fsdecode.")
    if "\0" in location:
        raise ConfigError(f"path is {location!r}, which holds a NUL character. Give the path of a .bmz file.")
    if not isinstance(runtime, str):
        raise ConfigError(f'runtime is {runtime!r}, expected a name such as "onnxruntime"; leave it out for "auto".')
    if variant is not None and not isinstance(variant, str):
        raise ConfigError(f'variant is {variant!r}, expected a name such as "cpu"; leave it out for the preferred one.')
    if score_threshold is None:
        return
    is_number = isinstance(score_threshold, Real) and not isinstance(score_threshold, bool)
    if not is_number or not 0 <= score_threshold <= 1:  # type: ignore[operator]
        raise ConfigError(f"score_threshold is {score_threshold!r}, expected a number from 0 to 1.")
