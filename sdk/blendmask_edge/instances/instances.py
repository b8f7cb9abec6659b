"""The result of a prediction: boxes, scores, classes, and masks that are pasted on first use."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from blendmask_edge.arguments.values import check_number
from blendmask_edge.bundle.tensors import EMPTY_CLASS
from blendmask_edge.errors import BundleError, ConfigError, DependencyError, ImageError, InstancesError
from blendmask_edge.imaging import check_image, paste_all, sigmoid
from blendmask_edge.imaging.crops import Crop, box_of, crop_mask
from blendmask_edge.imaging.edges import edges_of_maps
from blendmask_edge.imaging.rle import Rle, encode_crops, encode_edges
from blendmask_edge.instances.checks import check_fields, require_array
from blendmask_edge.labels import Labels, is_id

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.tensors import Outputs
    from blendmask_edge.imaging import ImageTransform


@dataclass(frozen=True, eq=False)
class Instances:
    """N instances of one image, sorted by descending score.

    Index with an integer, a slice, or an array of booleans or integers to select instances. `track_ids` and `data` are
    selected with them.

    Args:
        boxes: (N, 4) float32, x0 y0 x1 y1 in pixels of the image.
        scores: (N,) float32, 0 to 1.
        class_ids: (N,) int64, indices into `labels.names`.
        image_size: height and width of the image in pixels.
        labels: names and category ids of the classes.
        mask_logits: (N, R, R) float32, masks inside the boxes, before the sigmoid.
        track_ids: (N,) int64 ids from a tracker, -1 for an instance that is not tracked; or None.
        data: further arrays of length N, by name.
        mask_crops: N pairs (mask, (x0, y0)) of masks that are known pixel by pixel and not pasted from `mask_logits`:
            (h, w) bool, and the pixel of its top left corner; None for a mask that is pasted.

    Raises:
        InstancesError: an array has another type, dtype or shape, boxes or scores are out of range, or a class id has
            no label.

    Example:
        >>> import numpy as np
        >>> from blendmask_edge import Instances, Labels
        >>> instances = Instances(
        ...     boxes=np.array([[10, 10, 40, 30], [50, 20, 70, 50]], np.float32),
        ...     scores=np.array([0.9, 0.4], np.float32),
        ...     class_ids=np.array([0, 1]),
        ...     image_size=(60, 80),
        ...     labels=Labels(["mug", "bowl"], [47, 51]),
        ...     mask_logits=np.full((2, 56, 56), 5, np.float32),
        ... )
        >>> confident = instances[instances.scores >= 0.5]
        >>> mask, (x, y) = confident.crops()[0]
        >>> confident.class_names, mask.shape, (x, y)
        (['mug'], (20, 30), (10, 10))
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    image_size: Tuple[int, int]
    labels: Labels
    mask_logits: NDArray[np.float32] = field(repr=False)
    track_ids: Optional[NDArray[np.int64]] = None
    data: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    mask_crops: Optional[Sequence[Optional[Crop]]] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Validate the arrays."""
        check_fields(**vars(self))

    @classmethod
    def from_masks(
        cls,
        masks: NDArray[np.bool_],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.int64],
        labels: Labels,
        boxes: Optional[NDArray[np.float32]] = None,
        track_ids: Optional[NDArray[np.int64]] = None,
    ) -> Instances:
        """Return instances with given masks, from a file, another library or a person.

        Args:
            masks: (N, H, W) bool, in the size of the image.
            scores: (N,) float32, 0 to 1.
            class_ids: (N,) int64, indices into `labels.names`.
            labels: names and category ids of the classes.
            boxes: (N, 4) float32, x0 y0 x1 y1 in pixels; None takes the tight boxes of the masks.
            track_ids: (N,) int64 ids from a tracker, or None.

        Returns:
            The instances, by descending score.

        Raises:
            InstancesError: an array has another type, dtype or shape, or a value is out of range.
        """
        require_array("masks", masks, np.bool_, (None, None, None))
        crops = [crop_mask(mask) for mask in masks]
        tight = np.array([box_of(crop) for crop in crops], np.float32).reshape(-1, 4)
        instances = cls(
            tight if boxes is None else boxes,
            scores,
            class_ids,
            (masks.shape[1], masks.shape[2]),
            labels,
            np.zeros((len(masks), 0, 0), np.float32),
            track_ids,
            mask_crops=crops,
        )
        return instances[np.argsort(-instances.scores, kind="stable")]

    @classmethod
    def from_outputs(
        cls, outputs: Outputs, transform: ImageTransform, labels: Labels, score_threshold: float = 0.0
    ) -> Instances:
        """Convert the outputs of the graph to instances in pixels of the image.

        Boxes are scaled and clipped to the image. Empty rows, boxes without width or height, and scores below the
        threshold are dropped (AdelaiDet adet/modeling/blendmask, detectron2 modeling/postprocessing.py).

        Args:
            outputs: arrays of a batch of one.
            transform: transform from the image to the network input.
            labels: names and category ids of the classes.
            score_threshold: least score, 0 to 1; has no effect below the threshold of the graph.

        Raises:
            BundleError: a class id has no label; graph and manifest do not match.
        """
        scores, class_ids = outputs.scores[0], outputs.class_ids[0]
        boxes = transform.restore_boxes(outputs.boxes[0])
        keep = (class_ids != EMPTY_CLASS) & (scores >= score_threshold)
        keep &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        order = np.flatnonzero(keep)
        order = order[np.argsort(-scores[order], kind="stable")]
        chosen = class_ids[order].astype(np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(labels.names):
            raise BundleError(
                f"The graph returned class id {chosen.max()}, but the manifest names {len(labels.names)} classes. "
                "Build the bundle again."
            )
        return cls(boxes[order], scores[order], chosen, transform.image_size, labels, outputs.mask_logits[0, order])

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.scores)

    def __getitem__(self, index: Any) -> Instances:
        """Select instances by an integer, a slice, or an array of booleans or integers.

        Raises:
            InstancesError: the index is something else, or an array does not fit the number of instances.
            IndexError: an integer is out of range, which ends a loop over instances.
        """
        rows = self._rows(index)
        return Instances(
            self.boxes[rows],
            self.scores[rows],
            self.class_ids[rows],
            self.image_size,
            self.labels,
            self.mask_logits[rows],
            None if self.track_ids is None else self.track_ids[rows],
            {name: values[rows] for name, values in self.data.items()},
            None if self.mask_crops is None else [self.mask_crops[row] for row in rows],
        )

    def shift(self, x: int, y: int, image_size: Tuple[int, int]) -> Instances:
        """Return the instances of a region in pixels of the whole image.

        Args:
            x, y: pixel of the region's top left corner in the image.
            image_size: height and width of the image in pixels.

        Raises:
            InstancesError: the region does not lie inside the image.
        """
        height, width = self.image_size
        if not (0 <= x <= image_size[1] - width and 0 <= y <= image_size[0] - height):
            raise InstancesError(
                f"A region of {self.image_size} (height, width) at ({x}, {y}) does not lie inside an image of "
                f"{image_size}."
            )
        return replace(
            self,
            boxes=self.boxes + np.array([x, y, x, y], np.float32),
            image_size=image_size,
            mask_crops=None if self.mask_crops is None else [_shift_crop(crop, x, y) for crop in self.mask_crops],
        )

    def _rows(self, index: Any) -> NDArray[np.int64]:
        try:
            rows = np.atleast_1d(np.arange(len(self))[index])
        except IndexError as error:
            if isinstance(index, Integral):
                raise
            raise InstancesError(_describe_index(index, len(self))) from error
        if rows.ndim != 1:
            raise InstancesError(_describe_index(index, len(self)))
        return rows

    def with_tracks(self, track_ids: NDArray[np.int64]) -> Instances:
        """Return the instances with track ids.

        Args:
            track_ids: (N,) int64.

        Raises:
            InstancesError: the array has another dtype or length.
        """
        return replace(self, track_ids=track_ids)

    def agnostic_nms(self, iou_threshold: float = 0.7) -> Instances:
        """Suppress instances whose box overlaps that of a higher-scoring one of any class; meant for display.

        Args:
            iou_threshold: largest allowed IoU of two boxes, 0 to 1.

        Returns:
            The remaining instances.

        Raises:
            ConfigError: `iou_threshold` is not a number from 0 to 1.
        """
        check_number("iou_threshold", iou_threshold, 0, 1)
        selected: List[int] = []
        for row in range(len(self)):
            if not selected or _ious(self.boxes[row], self.boxes[selected]).max() <= iou_threshold:
                selected.append(row)
        return self[selected]

    @property
    def class_names(self) -> List[str]:
        """List of N class names."""
        return [self.labels.names[class_id] for class_id in self.class_ids]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, pasted and cached on first use. `crops` and `rles` need much less memory."""
        masks = np.zeros((len(self), *self.image_size), np.bool_)
        for mask, (crop, (x, y)) in zip(masks, self.crops()):
            mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return masks

    def crops(self) -> List[Crop]:
        """Return each mask inside its box, without the dense array.

        Returns:
            N pairs (mask, (x0, y0)): (h, w) bool, and the pixel of its top left corner in the image.
        """
        pasted = iter(paste_all(*self._pasted(), self.image_size))
        return [next(pasted) if crop is None else crop for crop in self._known_crops()]

    def rles(self) -> List[Rle]:
        """Return the masks as compressed COCO RLE, without the dense array.

        Returns:
            N dictionaries {"size": [H, W], "counts": str}.
        """
        known = self._known_crops()
        probabilities, boxes = self._pasted()
        pasted = iter(encode_edges(edges_of_maps(probabilities, boxes, self.image_size), self.image_size))
        given = iter(encode_crops([crop for crop in known if crop is not None], self.image_size))
        return [next(pasted) if crop is None else next(given) for crop in known]

    def _known_crops(self) -> Sequence[Optional[Crop]]:
        return [None] * len(self) if self.mask_crops is None else self.mask_crops

    def _pasted(self) -> Tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return probabilities and boxes of the masks that are pasted."""
        rows = [row for row, crop in enumerate(self._known_crops()) if crop is None]
        return sigmoid(self.mask_logits[rows]), self.boxes[rows]

    def to_coco(self, image_id: int) -> List[Dict[str, Any]]:
        """Return the instances as COCO results.

        Args:
            image_id: COCO id of the image.

        Returns:
            N dictionaries with image_id, category_id, bbox (x, y, width, height), score and segmentation (RLE), and
            track_id where `track_ids` has one of 0 or more.

        Raises:
            ConfigError: `image_id` is not an integer of at most 64 bits.
        """
        if not is_id(image_id):
            raise ConfigError(f"image_id is {image_id!r}, expected an integer of at most 64 bits.")
        results = [
            {
                "image_id": int(image_id),
                "category_id": int(self.labels.category_ids[class_id]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
                "segmentation": rle,
            }
            for class_id, (x0, y0, x1, y1), score, rle in zip(
                self.class_ids, self.boxes.tolist(), self.scores.tolist(), self.rles()
            )
        ]
        if self.track_ids is not None:
            for result, track_id in zip(results, self.track_ids.tolist()):
                if track_id >= 0:
                    result["track_id"] = track_id
        return results

    def to_supervision(self) -> Any:
        """Return the instances as `supervision.Detections`, with masks, track ids and data["class_name"].

        Raises:
            DependencyError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise DependencyError(
                f"to_supervision needs supervision ({error}). Type: pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes,
            mask=self.masks,
            confidence=self.scores,
            class_id=self.class_ids,
            tracker_id=self.track_ids,
            data={**self.data, "class_name": np.array(self.class_names, dtype=str)},
        )

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw masks, outlines, class names and scores.

        Args:
            image: the image of these instances, (H, W, 3) uint8, RGB or BGR.

        Returns:
            An annotated copy, in the same channel order.

        Raises:
            ImageError: the image has another dtype, shape or size.
        """
        from blendmask_edge.imaging.drawing import Mark, draw_marks

        if check_image(image).shape[:2] != tuple(self.image_size):
            raise ImageError(
                f"The image has size {image.shape[:2]} (height, width), but the instances belong to an image of size "
                f"{tuple(self.image_size)}. Draw on the image that was predicted."
            )
        marks = [
            Mark(mask, corner, tuple(box), int(class_id), caption)
            for (mask, corner), box, class_id, caption in zip(
                self.crops(), self.boxes.tolist(), self.class_ids, self._captions()
            )
        ]
        return draw_marks(image, marks)

    def _captions(self) -> List[str]:
        track_ids = np.full(len(self), -1) if self.track_ids is None else self.track_ids
        tracks = [f"#{number} " if number >= 0 else "" for number in track_ids]
        return [f"{track}{name} {score:.2f}" for track, name, score in zip(tracks, self.class_names, self.scores)]


def _describe_index(index: object, count: int) -> str:
    return (
        f"index is {reprlib.repr(index)}, expected an integer, a slice, or an array of {count} booleans or of integers "
        f"below {count}."
    )


def _shift_crop(crop: Optional[Crop], x: int, y: int) -> Optional[Crop]:
    return None if crop is None else (crop[0], (crop[1][0] + x, crop[1][1] + y))


def _ious(box: NDArray[np.float32], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the IoU of one box with (N, 4) boxes."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
    return np.asarray(shared / np.maximum(areas - shared, np.float32(1e-9)), np.float32)
