"""Predict the instances of an image."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, NoReturn, Optional, Tuple, Union

import numpy as np

from blendmask_edge.arguments.prediction import (
    check_batch,
    check_bundle_path,
    check_classes,
    check_roi,
    check_session_names,
    check_threshold,
    check_tile,
)
from blendmask_edge.arguments.values import check_count, check_flag, check_number
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.bundle.signature import absolute_keys, required_keys
from blendmask_edge.errors import BlendMaskError, ConfigError, ImageError
from blendmask_edge.imaging import check_image
from blendmask_edge.imaging.opencv import set_opencv_threads
from blendmask_edge.instances import Instances
from blendmask_edge.integrations.tracking import Tracker
from blendmask_edge.prediction.image_pipeline import ImagePipeline, Timings
from blendmask_edge.prediction.selection import Selection
from blendmask_edge.prediction.tiling import join_tiles, tile_grid
from blendmask_edge.runtimes.auto_select import open_session
from blendmask_edge.runtimes.registry import AUTO, SessionOptions
from blendmask_edge.runtimes.shared import SessionLease
from blendmask_edge.streaming.pipeline import Ticket
from blendmask_edge.streaming.sources import Source, open_source
from blendmask_edge.streaming.stream import Stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.arguments.prediction import Classes, Roi
    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.bundle.signature import Keys
    from blendmask_edge.storage.atomic import PathLike
    from blendmask_edge.streaming.sources import StreamSource
    from blendmask_edge.streaming.stream import OnError

_MOST_WARM_UP_FRAMES = 10_000
_MOST_DEPTH = 64
_MOST_OVERLAP = 0.9


class MaskPredictor:
    """Predict instance masks with a bundle.

    Threads can share a predictor: calls are serialized, and each returns the instances of its own image. Pickling
    carries the path and the options, so that a spawned process opens the bundle anew; a forked process must open its
    own.

    Attributes:
        manifest: manifest of the bundle: classes, input size, measured accuracy.

    Example:
        >>> from blendmask_edge import MaskPredictor, read_image
        >>> with MaskPredictor("model.bmz", runtime="onnxruntime", threads=1) as predictor:
        ...     instances = predictor(read_image("image.jpg"))
        >>> instances.class_names, instances.boxes.shape, instances.masks.shape
        (['red', 'green', 'blue'], (3, 4), (3, 48, 64))
    """

    def __init__(
        self,
        path: PathLike,
        runtime: str = AUTO,
        threads: Optional[int] = None,
        score_threshold: Optional[float] = None,
        variant: Optional[str] = None,
        agnostic_nms: bool = False,
        public_key: Optional[Keys] = None,
    ) -> None:
        """Open a bundle and load its graph.

        Args:
            path: path of the .bmz file.
            runtime: "onnxruntime", "openvino", "tensorrt", "onnxruntime-tensorrt", "onnxruntime-cuda",
                "torch_tensorrt", or "auto" for the fastest installed one.
                If several can run the bundle, "auto" times them for about a second on the first frame with instances
                and stores the result for 30 days in the cache folder (`$BLENDMASK_CACHE`, or
                `~/.cache/blendmask-edge`). Call `warm_up` with an image to time them at once.
            threads: threads within an operator, 1 to 256, and of OpenCV where it is loaded, whose pool belongs to the
                process; None leaves the numbers to the runtime and to OpenCV.
            score_threshold: least score of an instance, 0 to 1. None takes the bundle's `display_threshold`, which is
                chosen for display; 0 returns everything that the graph outputs, as average precision needs. The
                graph computes no masks of instances that score less.
            variant: name of the graph; None takes the one that the runtime prefers.
            agnostic_nms: suppress instances that overlap a higher-scoring one of any class, for display; the graph
                itself suppresses within each class, as average precision needs. See `Instances.agnostic_nms`.
            public_key: Ed25519 public keys in PEM format, one of which must have signed the bundle; see `Bundle.open`.

        Raises:
            SignatureError: a signature is required, and missing or wrong.
            BundleError: the file is not a valid bundle, or has no such graph.
            RuntimeUnavailableError: the runtime is not installed or has no device.
            InferenceError: the runtime refuses the graph, or the graph does not match the manifest.
            ConfigError: an argument has a wrong type, is out of range, or names an unknown runtime.
        """
        check_bundle_path(path)
        check_session_names(runtime, variant)
        check_flag("agnostic_nms", agnostic_nms)
        threshold = None if score_threshold is None else check_threshold(score_threshold)
        options = SessionOptions(threads)
        keys = required_keys(public_key)
        self._arguments: Dict[str, Any] = {
            "path": str(Path(path).absolute()), "runtime": runtime, "threads": threads,
            "score_threshold": score_threshold, "variant": variant, "agnostic_nms": agnostic_nms,
            "public_key": absolute_keys(keys) if keys or public_key is not None else None,
        }  # fmt: skip
        bundle = Bundle.open(path, public_key)
        self.manifest: Manifest = bundle.manifest
        self._threshold = self.manifest.display_threshold if threshold is None else threshold
        session = open_session(bundle, runtime, variant, replace(options, score_threshold=self._threshold))
        self._pipeline = ImagePipeline(self.manifest, SessionLease(session))
        self._bound_opencv()
        self._agnostic_nms = agnostic_nms
        self._last = threading.local()

    @property
    def runtime(self) -> str:
        """Name of the runtime in use; with "auto" it can change at the first frame with instances."""
        return self._pipeline.session.runtime

    @property
    def variant(self) -> str:
        """Name of the graph in use."""
        return self._pipeline.session.variant

    @property
    def score_threshold(self) -> float:
        """Least score of the instances that are returned."""
        return self._threshold

    @property
    def timings(self) -> Timings:
        """Duration of the last call of this thread, by stage; zeros before the first call."""
        last: Timings = getattr(self._last, "timings", Timings(0.0, 0.0, 0.0))
        return last

    def __call__(
        self,
        image: NDArray[np.uint8],
        channels: str = "rgb",
        *,
        score_threshold: Optional[float] = None,
        classes: Optional[Classes] = None,
        roi: Optional[Roi] = None,
    ) -> Instances:
        """Predict the instances of one image.

        Args:
            image: (H, W, 3) uint8, of any size.
            channels: order of the channels: "rgb", or "bgr" for OpenCV frames.
            score_threshold: least score, from that of the predictor to 1; None takes that of the predictor.
            classes: names or class ids of the instances to return; None returns all.
            roi: region of interest, x0 y0 x1 y1 in pixels of the image, extended to whole pixels and clipped to the
                image. The network sees only this part, at a higher resolution where the input is smaller than the
                image.

        Returns:
            Instances with scores of at least `score_threshold`, highest first, in pixels of `image`.

        Raises:
            ImageError: the array has another dtype or shape.
            ConfigError: a threshold, class or region is wrong.
            InferenceError: the runtime failed, or returned invalid values.
            ClosedError: the predictor is closed, or was opened before this process was forked.
        """
        return self._predict(image, channels, self._selection(score_threshold, classes, roi))

    def predict_batch(
        self,
        images: Iterable[NDArray[np.uint8]],
        channels: str = "rgb",
        *,
        score_threshold: Optional[float] = None,
        classes: Optional[Classes] = None,
        roi: Optional[Roi] = None,
    ) -> List[Instances]:
        """Predict several images; one is resized while another runs through the network.

        Args:
            images: (H, W, 3) uint8, of any sizes.
            channels, score_threshold, classes, roi: as for a single image.

        Returns:
            The instances of each image, equal to those of single calls.

        Raises:
            ImageError: an array has another dtype or shape; the message has its number, and no image is predicted.
            ConfigError: `images` is a single image or no sequence, or as for a single image.
            InferenceError, ClosedError: as for a single image.
        """
        batch = check_batch(images)
        for number, image in enumerate(batch):
            try:
                check_image(image, channels)
            except ImageError as error:
                raise ImageError(f"images[{number}]: {error}") from error
        stages = self._pipeline.stages(channels, self._selection(score_threshold, classes, roi))
        with Stream(Source(iter(batch)), stages, drops_oldest=False, depth=1, on_error=_raise) as results:
            return [result.instances for result in results]

    def predict_tiled(
        self,
        image: NDArray[np.uint8],
        tile: Optional[Tuple[int, int]] = None,
        overlap: float = 0.25,
        channels: str = "rgb",
        *,
        score_threshold: Optional[float] = None,
        classes: Optional[Classes] = None,
    ) -> Instances:
        """Predict a large image in tiles, so that small instances are not shrunk away; join those that seams cut.

        It takes the time of as many images as there are tiles. An instance larger than a tile is put together from its
        parts, which is less accurate than a single call that sees it whole.

        Args:
            image: (H, W, 3) uint8, of any size.
            tile: height and width of a tile in pixels of the image; None takes those of the network input, which are
                not resized.
            overlap: share of a tile that its neighbor covers as well, 0 to 0.9; make the overlap as large as the
                instances that matter.
            channels, score_threshold, classes: as for a single call.

        Returns:
            Instances in pixels of `image`, highest score first, each once.

        Raises:
            ImageError, ConfigError, InferenceError, ClosedError: as for a single call.
        """
        size = check_tile(tile, (self.manifest.input.height, self.manifest.input.width))
        overlap = check_number("overlap", overlap, 0, _MOST_OVERLAP)
        height, width = check_image(image, channels).shape[:2]
        tiles = tile_grid((height, width), size, overlap)
        regions = [image[y0:y1, x0:x1] for x0, y0, x1, y1 in tiles]
        tiled = self.predict_batch(regions, channels, score_threshold=score_threshold, classes=classes)
        joined = join_tiles(tiled, tiles, (height, width), self._pipeline.labels)
        return joined.agnostic_nms() if self._agnostic_nms else joined

    def stream(
        self,
        source: StreamSource,
        drop: Optional[str] = None,
        *,
        channels: str = "rgb",
        depth: int = 1,
        on_error: Optional[OnError] = None,
        score_threshold: Optional[float] = None,
        classes: Optional[Classes] = None,
        roi: Optional[Roi] = None,
        track: Union[bool, Tracker] = False,
    ) -> Stream:
        """Predict the frames of a source, one after the other, while the next are captured and resized.

        A frame that cannot be read or predicted is skipped and given to `on_error`. A camera or URL that is lost is
        opened again for 10 seconds. The stream ends with the source, with an error of it, with Ctrl-C, or when it is
        closed or no longer referenced, as after `break`.

        Args:
            source: number of a camera; path of a video file, of an image, or of a folder of images, which come by name;
                URL or GStreamer pipeline that OpenCV opens; or an iterable of (H, W, 3) uint8 frames, which are copied.
            drop: "oldest" drops frames and results that wait when newer ones come; "never" lets the source wait. None
                takes "oldest" for cameras and URLs, "never" for the rest.
            channels: order of the channels of the frames that the stream returns, and of those of an iterable: "rgb",
                or "bgr" as OpenCV captures them.
            depth: most frames that wait between two of the four stages, 1 to 64.
            on_error: takes the number of each frame that fails and the error, in the order of the frames; None logs a
                warning.
            score_threshold, classes, roi: as for a single image.
            track: True gives instances identities from frame to frame, in `instances.track_ids`, which start at the
                bundle's display threshold; a `Tracker` does so with its own settings. Needs the extra `track`.

        Returns:
            An iterator over results, each of which unpacks as `frame, instances`. `report` has its rate and losses.

        Raises:
            SourceError: the source cannot be opened, or holds no frame.
            ConfigError: an argument has a wrong type or is out of range.
            DependencyError: tracking is asked for and not installed.

        Example:
            >>> import numpy as np
            >>> from blendmask_edge import MaskPredictor
            >>> frames = (np.full((48, 64, 3), 80 * n, np.uint8) for n in range(4))
            >>> with MaskPredictor("model.bmz", runtime="onnxruntime", threads=1) as predictor:
            ...     stream = predictor.stream(frames)
            ...     [len(instances) for frame, instances in stream]
            [0, 3, 3, 3]
            >>> stream.report.frames, stream.report.dropped, stream.report.failed
            (4, 0, 0)
        """
        selection = self._selection(score_threshold, classes, roi)
        if drop not in (None, "oldest", "never"):
            raise ConfigError(f'drop is {drop!r}, expected "oldest" or "never".')
        if channels not in ("rgb", "bgr"):
            raise ConfigError(f'channels is {channels!r}, expected "rgb" or "bgr".')
        check_count("depth", depth, _MOST_DEPTH)
        if on_error is not None and not callable(on_error):
            raise ConfigError(f"on_error is {on_error!r}, expected a function of a frame's number and an error.")
        tracker = self._tracker(track)
        opened = open_source(source, channels)
        self._bound_opencv()
        drops_oldest = drop == "oldest" or (drop is None and opened.is_live)

        def follow(instances: Instances, ticket: Ticket) -> Instances:
            return tracker.update(instances, opened.time_of(ticket.index, ticket.captured)) if tracker else instances

        return Stream(opened, self._pipeline.stages(channels, selection, follow), drops_oldest, int(depth), on_error)

    def _bound_opencv(self) -> None:
        threads = self._arguments["threads"]
        if threads is not None:
            set_opencv_threads(int(threads))

    def _tracker(self, track: Union[bool, Tracker]) -> Optional[Tracker]:
        if isinstance(track, Tracker):
            return track
        check_flag("track", track)
        return Tracker(max(self._threshold, self.manifest.display_threshold)) if track else None

    def share(self, score_threshold: Optional[float] = None, agnostic_nms: bool = False) -> MaskPredictor:
        """Return another predictor that uses the same loaded graph, for a second camera or other options.

        Calls of all of them are serialized. The graph is released when the last one is closed.

        Args:
            score_threshold: least score of its instances, from that of this predictor to 1; None takes that of this
                predictor.
            agnostic_nms: suppress instances that overlap a higher-scoring one of any class.

        Raises:
            ConfigError: an argument has a wrong type or is out of range.
            ClosedError: the predictor is closed.
        """
        check_flag("agnostic_nms", agnostic_nms)
        least = self._threshold
        threshold = least if score_threshold is None else check_threshold(score_threshold, least)
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._arguments = {**self._arguments, "score_threshold": threshold, "agnostic_nms": agnostic_nms}
        other._pipeline = self._pipeline.share()
        other._threshold, other._agnostic_nms = threshold, agnostic_nms
        other._last = threading.local()
        return other

    def _selection(self, score_threshold: Optional[float], classes: Optional[Classes], roi: Optional[Roi]) -> Selection:
        least = self._threshold
        threshold = least if score_threshold is None else check_threshold(score_threshold, least)
        return Selection(
            threshold, check_classes(classes, self._pipeline.labels.names), check_roi(roi), self._agnostic_nms
        )

    def _predict(
        self, image: NDArray[np.uint8], channels: str, selection: Selection, is_typical: bool = False
    ) -> Instances:
        instances, self._last.timings = self._pipeline.run(image, channels, selection, is_typical)
        return instances

    def warm_up(self, frames: int = 1, image: Optional[NDArray[np.uint8]] = None) -> None:
        """Run the network to allocate memory and start threads before the first frame.

        Args:
            frames: number of runs, 1 to 10,000.
            image: typical frame, (H, W, 3) uint8 RGB, with which runtime="auto" makes its choice now; None takes a
                blank image and leaves the choice to the first frame with instances.

        Raises:
            ConfigError: `frames` is not an integer or out of range.
            ImageError: `image` has another dtype or shape.
            InferenceError: the runtime failed.
            ClosedError: the predictor is closed.
        """
        check_count("frames", frames, _MOST_WARM_UP_FRAMES)
        spec = self.manifest.input
        frame = np.zeros((spec.height, spec.width, 3), np.uint8) if image is None else image
        for _ in range(frames):
            self._predict(frame, "rgb", self._selection(None, None, None), is_typical=image is not None)

    def close(self) -> None:
        """Release the runtime; waits for a running call of another thread, and can be repeated."""
        self._pipeline.session.close()

    def __getstate__(self) -> Dict[str, Any]:
        """Return the arguments, with an absolute path: runtimes cannot be sent to another process."""
        return self._arguments

    def __setstate__(self, arguments: Dict[str, Any]) -> None:
        """Open the bundle anew; raises what the constructor does."""
        MaskPredictor.__init__(self, **arguments)

    def __enter__(self) -> MaskPredictor:
        """Return the predictor."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the predictor."""
        self.close()


def _raise(_: int, error: BlendMaskError) -> NoReturn:
    raise error
