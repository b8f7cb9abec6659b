"""The reference's recorded training step, as tensors."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from blendmask_quantize.train.targets import ObjectTargets, Targets, assign


def unpack(bits: np.ndarray, shape: np.ndarray) -> Tensor:
    """Booleans of the given shape from bits packed in C order."""
    return torch.from_numpy(np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool))


@dataclass(frozen=True)
class Recording:
    """One case's batch of two images."""

    case: Path

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.case / "training/targets.npz"))

    def json(self, name: str) -> dict[str, Any]:
        return json.loads((self.case / name).read_text())

    @property
    def head(self) -> dict[str, Any]:
        return self.json("config.json")["MODEL"]["FCOS"]

    @property
    def boxes(self) -> list[Tensor]:
        return [torch.from_numpy(self.arrays[f"img{i}.gt_boxes"]) for i in range(2)]

    @property
    def classes(self) -> list[Tensor]:
        return [torch.from_numpy(self.arrays[f"img{i}.gt_classes"]).long() for i in range(2)]

    @property
    def bitmaps(self) -> list[Tensor]:
        return [unpack(self.arrays[f"img{i}.gt_masks_packed"], self.arrays[f"img{i}.gt_masks_shape"]) for i in range(2)]

    @property
    def object_masks(self) -> Tensor:
        return unpack(self.arrays["mask_targets_packed"], self.arrays["mask_targets_shape"])

    @property
    def level_sizes(self) -> list[tuple[int, int]]:
        return [(-(-288 // stride),) * 2 for stride in self.head["FPN_STRIDES"]]

    def assigned(self) -> Targets:
        head = self.head
        bounds = head["SIZES_OF_INTEREST"]
        return assign(self.boxes, self.classes, self.level_sizes, head["FPN_STRIDES"], bounds, head["NUM_CLASSES"])

    def objects(self) -> ObjectTargets:
        split = self.object_masks.split([len(boxes) for boxes in self.boxes])
        return ObjectTargets.from_images(self.boxes, split)

    def semantic(self) -> Tensor:
        """(2, 288, 288), padded with background."""
        padded = torch.zeros((2, 288, 288), dtype=torch.int64)
        for i in range(2):
            part = torch.from_numpy(self.arrays[f"img{i}.sem_target"])
            padded[i, : part.shape[0], : part.shape[1]] = part
        return padded


@pytest.fixture(scope="session")
def recording(parity: Path) -> Callable[[str], Recording]:
    """The recorded training step of a case."""
    return lambda case: Recording(parity / case)
