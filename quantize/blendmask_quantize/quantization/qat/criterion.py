"""How good a quantized network is on images it was not trained on: mask AP against labels, or the float network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle_codec
from pycocotools.coco import COCO
from torch import nn

from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.errors import CalibrationError
from blendmask_edge.evaluation.annotations import as_coco
from blendmask_edge.imaging import preprocess, read_image
from blendmask_edge.instances import Instances
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.checkpoints.labels import Labels
from blendmask_quantize.export.deployable import Bounds, DeployableGraph
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.validation.evaluate import OnImage, Predictor, collect_results, score

SURE = 0.5
"""Score from which an object that the float network finds counts as true."""

Judge = Callable[[Calibrated], Mapping[str, float]]
"""From weights and ranges to the mask AP of each variant."""


class GraphPredictor:
    """Predict with a network inside the deployable graph, in torch.

    Args:
        checkpoint: gives configuration, top layer and labels.
        network: normalized image to `Predictions`; float or rendered.
        size: height and width of the network input.
    """

    def __init__(self, checkpoint: Checkpoint, network: nn.Module, size: tuple[int, int]) -> None:
        self.labels, self.size = checkpoint.labels, size
        self.pad_value = pad_value(checkpoint.config.input)
        self.graph = DeployableGraph(checkpoint.model, network, size, Bounds()).eval()

    @torch.no_grad()
    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Instances in a image (H, W, 3) uint8 RGB."""
        prepared = preprocess(image, self.size, self.pad_value)
        outputs = self.graph(torch.from_numpy(prepared.image))
        return Instances.from_outputs(
            Outputs(*(output.numpy() for output in outputs)),
            scale=(prepared.scale_x, prepared.scale_y),
            image_size=(image.shape[0], image.shape[1]),
            labels=self.labels,
        )


@dataclass(frozen=True)
class GroundTruth:
    """What held-out images show.

    Attributes:
        kind: where that is known from: "labels" or "the float network".
        coco: annotations; the file names are relative to `folder`.
        folder: where the images lie.
        ids: which images.
    """

    kind: str
    coco: COCO
    folder: Path
    ids: tuple[int, ...]


class MaskCriterion:
    """Mask AP of the variants on held-out images.

    Args:
        checkpoint: gives configuration, top layer and labels.
        size: height and width of the network input.
        truth: what the images show.
        on_image: called after each image and variant.
    """

    def __init__(
        self, checkpoint: Checkpoint, size: tuple[int, int], ground_truth: GroundTruth, on_image: OnImage | None = None
    ) -> None:
        self.checkpoint, self.size, self.ground_truth, self.on_image = checkpoint, size, ground_truth, on_image

    def __call__(self, calibrated: Calibrated) -> dict[str, float]:
        """Mask AP, 0..1, by variant."""
        return {variant: self._mask_ap(calibrated.render(variant)) for variant in VARIANTS}

    def _mask_ap(self, network: nn.Module) -> float:
        ground_truth, predict = self.ground_truth, GraphPredictor(self.checkpoint, network, self.size)
        results = collect_results(predict, ground_truth.folder, ground_truth.coco, ground_truth.ids, self.on_image)
        return score(ground_truth.coco, results, ground_truth.ids)["mask_ap"]


def found_by(predict: Predictor, paths: Sequence[Path], labels: Labels) -> GroundTruth:
    """What a predictor is sure of, as the truth.

    Raises:
        CalibrationError: it is sure of nothing in any image.
        ImageError: a file is no image.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, path in enumerate(paths, start=1):
        pixels = read_image(path)
        found = predict(pixels)
        images.append({"id": image_id, "file_name": str(path), "height": pixels.shape[0], "width": pixels.shape[1]})
        annotations += found[found.scores >= SURE].to_coco(image_id)
    if not annotations:
        raise CalibrationError(
            f"the float network is sure of no object in {len(images)} held-out images, so nothing can be compared "
            "with it: calibrate on images of what it was trained for, or give --annotations"
        )
    for number, annotation in enumerate(annotations, start=1):
        annotation |= {"id": number, "iscrowd": 0, "area": float(rle_codec.area(annotation["segmentation"]))}
    categories = [{"id": i, "name": name} for i, name in zip(labels.category_ids, labels.names, strict=True)]
    coco = as_coco({"images": images, "annotations": annotations, "categories": categories})
    return GroundTruth("the float network", coco, Path(), tuple(range(1, len(images) + 1)))
