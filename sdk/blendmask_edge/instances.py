"""The result of a prediction: boxes, scores, classes, and masks that are pasted when they are asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple

import numpy as np

from blendmask_edge.bundle.tensors import EMPTY_CLASS
from blendmask_edge.errors import BundleError, DependencyError
from blendmask_edge.imaging import clip_boxes, paste, sigmoid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.bundle.tensors import Outputs

    Crop = Tuple[NDArray[np.bool_], Tuple[int, int]]

Rle = Dict[str, Any]


@dataclass(frozen=True)
class Labels:
    """What the contiguous class ids mean: a name and a COCO category id for each."""

    names: Sequence[str]
    category_ids: Sequence[int]


@dataclass(frozen=True, eq=False)
class Instances:
    """N instances found in one image, by descending score.

    boxes: (N, 4) float32, x0 y0 x1 y1 in pixels of the image, inside it.
    scores: (N,) float32, descending.
    class_ids: (N,) int64, contiguous.
    image_size: (height, width) of the image.
    labels: names and category ids of the classes.
    mask_logits: (N, R, R) float32, masks in their boxes before the sigmoid.

    Indexing with an integer, a slice, or an array of booleans or integers gives the chosen instances:
    `instances[instances.scores >= 0.5]`.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.int64]
    image_size: Tuple[int, int]
    labels: Labels
    mask_logits: NDArray[np.float32] = field(repr=False)

    @classmethod
    def from_outputs(
        cls,
        outputs: Outputs,
        *,
        scale: Tuple[float, float],
        image_size: Tuple[int, int],
        labels: Labels,
        score_threshold: float = 0.0,
    ) -> Instances:
        """Make instances of one image from what the graph returned.

        AdelaiDet adet/modeling/blendmask, detectron2 modeling/postprocessing.py: scale the boxes, clip them to the
        image, drop those without width or height. Empty rows and scores below the threshold are dropped too.

        Args:
            outputs: of a batch of one.
            scale: (x, y) pixels of the image per pixel of the network input.
            image_size: (height, width) of the image.
            labels: of the contiguous classes.
            score_threshold: on the final score; a graph has its own, below which this has no effect.

        Raises:
            BundleError: a class id has no label, so that graph and manifest do not belong together.
        """
        scores, class_ids = outputs.scores[0], outputs.class_ids[0]
        boxes = clip_boxes(outputs.boxes[0] * np.array([*scale, *scale], np.float32), image_size)
        keep = (class_ids != EMPTY_CLASS) & (scores >= score_threshold)
        keep &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        order = np.flatnonzero(keep)
        order = order[np.argsort(-scores[order], kind="stable")]
        chosen = class_ids[order].astype(np.int64)
        if len(chosen) and not 0 <= chosen.min() <= chosen.max() < len(labels.names):
            raise BundleError(
                f"The graph gave class id {chosen.max()}, the manifest names {len(labels.names)} classes. "
                "Build the bundle again."
            )
        return cls(boxes[order], scores[order], chosen, image_size, labels, outputs.mask_logits[0, order])

    def __len__(self) -> int:
        """Return the number of instances."""
        return len(self.scores)

    def __getitem__(self, index: Any) -> Instances:
        """Return the instances chosen by an integer, a slice, or an array of booleans or integers."""
        rows = np.atleast_1d(np.arange(len(self))[index])
        return Instances(
            self.boxes[rows],
            self.scores[rows],
            self.class_ids[rows],
            self.image_size,
            self.labels,
            self.mask_logits[rows],
        )

    @property
    def class_names(self) -> List[str]:
        """Name of the class of each object."""
        return [self.labels.names[class_id] for class_id in self.class_ids]

    @cached_property
    def masks(self) -> NDArray[np.bool_]:
        """(N, H, W) bool, pasted on first use and kept; `crops` and `rles` need much less memory."""
        masks = np.zeros((len(self), *self.image_size), np.bool_)
        for mask, (crop, (x, y)) in zip(masks, self.crops()):
            mask[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return masks

    def crops(self) -> List[Crop]:
        """Return (mask, (x0, y0)) of each object: the bool mask inside its box, and the pixel where it starts."""
        return [self._crop(row) for row in range(len(self))]

    def rles(self) -> List[Rle]:
        """Return the masks as compressed COCO RLE, {"size": [H, W], "counts": str}, without the dense array."""
        return [encode_crop(self._crop(row), self.image_size) for row in range(len(self))]

    def to_coco(self, image_id: int) -> List[Dict[str, Any]]:
        """Return COCO results: image_id, category_id, bbox (x, y, width, height), score, segmentation."""
        return [
            {
                "image_id": image_id,
                "category_id": int(self.labels.category_ids[class_id]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": score,
                "segmentation": rle,
            }
            for class_id, (x0, y0, x1, y1), score, rle in zip(
                self.class_ids, self.boxes.tolist(), self.scores.tolist(), self.rles()
            )
        ]

    def to_supervision(self) -> Any:
        """Return `supervision.Detections` with masks, and the names under data["class_name"].

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
            data={"class_name": np.array(self.class_names, dtype=str)},
        )

    def draw(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a copy of the image with outlines, translucent masks, names and scores drawn in.

        Args:
            image: (H, W, 3) uint8, the image that was predicted; RGB gives RGB.

        Raises:
            ImageError: it is no image or has another size.
        """
        from blendmask_edge.imaging.drawing import draw_instances

        return draw_instances(self, image)

    def _crop(self, row: int) -> Crop:
        return paste(sigmoid(self.mask_logits[row]), self.boxes[row], self.image_size)


def encode_crop(crop: Crop, image_size: Tuple[int, int]) -> Rle:
    """Encode a mask that is false outside its crop as compressed COCO RLE of the whole image.

    Args:
        crop: (h, w) bool mask and the (x0, y0) pixel of its top left corner.
        image_size: (height, width) of the image.
    """
    from pycocotools import mask as coco_mask

    height, width = image_size
    counts = _run_lengths(crop, height, height * width)
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {"size": [height, width], "counts": rle["counts"].decode("ascii")}


def _run_lengths(crop: Crop, height: int, pixels: int) -> List[int]:
    """Return lengths of runs in column order over the whole image, the first of background."""
    mask, (x0, y0) = crop
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), np.int8)
    columns[:, 1:-1] = mask.T
    column, row = np.nonzero(np.diff(columns, axis=1))
    edges = (column + x0) * height + row + y0
    joined = np.flatnonzero(edges[1:] == edges[:-1])
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    counts: List[int] = np.diff(edges, prepend=0, append=pixels).tolist()
    return counts if counts[-1] or len(counts) == 1 else counts[:-1]
