"""Preprocessed images as the float network reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blendmask_quantize.model.blendmask import BlendMask


class NetworkInputs(Sequence[Tensor]):
    """Normalized images (1, 3, H, W), each made when it is asked for.

    Args:
        model: gives the normalization.
        images: preprocessed, uint8 (1, H, W, 3) RGB.
    """

    def __init__(self, model: BlendMask, images: Sequence[NDArray[np.uint8]]) -> None:
        self.model, self.images = model, images

    def __len__(self) -> int:
        """Number of images."""
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
