"""Images without annotations as training samples, for training against a teacher alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.imaging import fit_size, read_image
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.labels import Labels
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.training.augment import Augmentation, augment
from blendmask_quantize.training.copy_paste import Scene
from blendmask_quantize.training.samples import Sample, make_sample


class PlainImages:
    """Augmented images without instances.

    Args:
        paths: the image files.
        labels: of the network that will be trained.
        config: of that network.
        augmentation: how images vary.
    """

    def __init__(self, paths: Sequence[Path], labels: Labels, config: ModelConfig, augmentation: Augmentation) -> None:
        self.paths, self.labels, self.config, self.augmentation = list(paths), labels, config, augmentation

    @property
    def presence(self) -> NDArray[np.bool_]:
        """(images, classes) bool, False throughout."""
        return np.zeros((len(self.paths), len(self.labels.names)), bool)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """File name of image `index`."""
        return self.paths[index].name

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Augment image `index`.

        Raises:
            ImageError: the file is not an image.
        """
        pixels, inputs = read_image(self.paths[index]), self.config.input
        size = fit_size(pixels.shape[:2], (inputs.test_short, inputs.test_long))
        no_masks = np.zeros((0, *pixels.shape[:2]), np.bool_)
        image = augment(pixels, no_masks, size, self.augmentation, rng, pad_value(inputs))
        return make_sample(Scene(image, np.zeros(0, np.int64), np.zeros(0, bool)), self.config.resolution)
