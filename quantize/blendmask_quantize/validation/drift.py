"""What steps of refinement are given and judged by: pictures as the network reads them, and drift from float."""

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
from blendmask_quantize.quantization.placement import FLAVOURS
from blendmask_quantize.quantization.ptq import Calibrated
from blendmask_quantize.quantization.qat.criterion import GraphPredictor
from blendmask_quantize.quantization.refine.steps import Drift
from blendmask_quantize.validation.fidelity import Fidelity, compare_found


class NetworkInputs(Sequence[Tensor]):
    """Normalised pictures (1, 3, H, W), each made when it is asked for.

    Args:
        model: says how to normalise.
        pictures: prepared, uint8 (1, H, W, 3) RGB.
    """

    def __init__(self, model: BlendMask, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self.model, self.pictures = model, pictures

    def __len__(self) -> int:
        """How many there are."""
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> NetworkInputs: ...

    def __getitem__(self, index: int | slice) -> Tensor | NetworkInputs:
        """One of them, or some."""
        if isinstance(index, slice):
            return NetworkInputs(self.model, self.pictures[index])
        return self.model.normalise(torch.from_numpy(self.pictures[index]).permute(0, 3, 1, 2))


class DriftJudge:
    """How far quantised networks are from the float one: the objects that both find on some pictures, compared.

    Args:
        checkpoint: gives configuration, top layer and labels.
        reference: the float network.
        size: height and width of the network input.
        pictures: prepared, uint8 (1, H, W, 3) RGB.
    """

    def __init__(
        self, checkpoint: Checkpoint, reference: nn.Module, size: tuple[int, int],
        pictures: Sequence[NDArray[np.uint8]],
    ) -> None:  # fmt: skip
        self.checkpoint, self.size, self.pictures = checkpoint, size, pictures
        predict = GraphPredictor(checkpoint, reference, size)
        self.expected = [predict(picture[0]) for picture in pictures]

    def __call__(self, calibrated: Calibrated) -> Drift | None:
        """The mean over the flavours; None where there is no object to compare."""
        found = [self._compare(calibrated.render(flavour)) for flavour in FLAVOURS]
        if not all(one.matched for one in found):
            return None
        return Drift(
            masks=1 - fmean(one.mask_iou for one in found),
            boxes=1 - fmean(one.box_iou for one in found),
            scores=fmean(one.score_drift for one in found),
        )

    def _compare(self, network: nn.Module) -> Fidelity:
        predict = GraphPredictor(self.checkpoint, network, self.size)
        pairs = zip(self.expected, self.pictures, strict=True)
        return compare_found((expected, predict(picture[0])) for expected, picture in pairs)
