"""Images without annotations as training samples, for training against a teacher alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_edge.imaging import fit_size, read_image
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.labels import Labels
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.training.augment import Augmentation, random_view
from blendmask_quantize.training.data import Sample


class PlainImages:
    """Random views of images, with no object in any.

    Args:
        paths: the image files.
        labels: of the network that will be trained.
        config: of that network.
        options: how views vary.
    """

    def __init__(self, paths: Sequence[Path], labels: Labels, config: ModelConfig, options: Augmentation) -> None:
        self.paths, self.labels, self.config, self.options = list(paths), labels, config, options

    @property
    def presence(self) -> NDArray[np.bool_]:
        """(images, classes) bool, False throughout."""
        return np.zeros((len(self.paths), len(self.labels.names)), bool)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """File name of image `index`."""
        return self.paths[index].name

    def view(self, index: int, rng: np.random.Generator) -> Sample:
        """A random view of image `index`.

        Raises:
            ImageError: the file is no image.
        """
        pixels, inputs = read_image(self.paths[index]), self.config.input
        size = fit_size(pixels.shape[:2], (inputs.test_short, inputs.test_long))
        none = np.zeros((0, *pixels.shape[:2]), np.bool_)
        view = random_view(pixels, none, size, self.options, rng, pad_value(inputs)).pixels
        return Sample(
            torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1))),
            torch.zeros((0, 4)),
            torch.zeros(0, dtype=torch.int64),
            torch.zeros((0, self.config.resolution, self.config.resolution), dtype=torch.bool),
            torch.zeros(view.shape[:2], dtype=torch.int64),
        )
