"""What steps of refinement are given and judged by: images as the network reads them, and drift from float."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.qat.criterion import GraphPredictor
from blendmask_quantize.quantization.refine.steps import Drift
from blendmask_quantize.validation.fidelity import Fidelity, compare_found


class NetworkInputs(Sequence[Tensor]):
    """Normalized images (1, 3, H, W), each made when it is asked for.

    Args:
        model: says how to normalize.
        images: prepared, uint8 (1, H, W, 3) RGB.
    """

    def __init__(self, model: BlendMask, images: Sequence[NDArray[np.uint8]]) -> None:
        self.model, self.images = model, images

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> NetworkInputs: ...

    def __getitem__(self, index: int | slice) -> Tensor | NetworkInputs:
        """One of them, or some."""
        if isinstance(index, slice):
            return NetworkInputs(self.model, self.images[index])
        return self.model.normalize(torch.from_numpy(self.images[index]).permute(0, 3, 1, 2))


class DriftCriterion:
    """How far quantized networks are from the float one: the instances that both find on some images, compared.

    Args:
        checkpoint: gives configuration, top layer and labels.
        reference: the float network.
        size: height and width of the network input.
        images: prepared, uint8 (1, H, W, 3) RGB.
    """

    def __init__(
        self, checkpoint: Checkpoint, reference: nn.Module, size: tuple[int, int],
        images: Sequence[NDArray[np.uint8]],
    ) -> None:  # fmt: skip
        self.checkpoint, self.size, self.images = checkpoint, size, images
        predict = GraphPredictor(checkpoint, reference, size)
        self.expected = [predict(image[0]) for image in images]

    def __call__(self, calibrated: Calibrated) -> Drift | None:
        """The mean over the variants; None where there is no object to compare."""
        found = [self._compare(calibrated.render(variant)) for variant in VARIANTS]
        if not all(one.matched for one in found):
            return None
        return Drift(
            masks=1 - fmean(one.mask_iou for one in found),
            boxes=1 - fmean(one.box_iou for one in found),
            scores=fmean(one.score_drift for one in found),
        )

    def _compare(self, network: nn.Module) -> Fidelity:
        predict = GraphPredictor(self.checkpoint, network, self.size)
        pairs = zip(self.expected, self.images, strict=True)
        return compare_found((expected, predict(image[0])) for expected, image in pairs)
