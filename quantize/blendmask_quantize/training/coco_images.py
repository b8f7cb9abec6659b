"""COCO instance annotations as training samples."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import check_size
from blendmask_edge.imaging import fit_size, read_image
from blendmask_edge.labels import Labels
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.training.augment import Augmentation, augment
from blendmask_quantize.training.copy_paste import Scene, paste
from blendmask_quantize.training.labeled_images import LabeledImages, read_labeled_images
from blendmask_quantize.training.samples import SMALLEST_INSTANCE, Sample, make_sample
from blendmask_quantize.training.sampling import EVEN, SamplingOptions

_LOG = logging.getLogger(__name__)


class CocoImages:
    """Augmented images of one annotation file.

    Args:
        labeled: the images; crowds count for the semantic target only.
        config: of the network that will be trained.
        augmentation: how images vary.
        sampling: which classes are pasted more often than others.

    Raises:
        AnnotationError: the network has another number of classes.
        ConfigError: the sampling names an unknown class.
    """

    def __init__(
        self, labeled: LabeledImages, config: ModelConfig, augmentation: Augmentation, sampling: SamplingOptions = EVEN
    ) -> None:
        self.labeled, self.config, self.augmentation, self.sampling = labeled, config, augmentation, sampling
        if len(self.labels.names) != config.num_classes:
            raise AnnotationError(
                f"{labeled.annotations} has {len(self.labels.names)} categories, {config.name} expects "
                f"{config.num_classes}: set the configuration's class count to match"
            )
        self.class_factors = sampling.class_factors(self.labels.names)

    @classmethod
    def open(
        cls, images: str | Path, annotations: str | Path, config: ModelConfig, augmentation: Augmentation,
        sampling: SamplingOptions = EVEN, labels: Labels | None = None,
    ) -> CocoImages:  # fmt: skip
        """Read the annotations of a folder; what is left out is logged.

        Args:
            images: the folder.
            annotations: COCO instances JSON.
            config, augmentation, sampling: as for `CocoImages`.
            labels: the network's classes; None takes the categories of the annotations.

        Raises:
            AnnotationError: as `read_labeled_images`, or the network has another number of classes.
            ConfigError: the sampling names an unknown class.
        """
        labeled = read_labeled_images(Path(images), Path(annotations), labels, sampling=sampling)
        for note in labeled.notes():
            _LOG.warning("%s", note)
        return cls(labeled, config, augmentation, sampling)

    @property
    def labels(self) -> Labels:
        """The classes."""
        return self.labeled.labels

    @property
    def presence(self) -> NDArray[np.bool_]:
        """(images, classes) bool, whether an image shows an instance of the class."""
        return self.labeled.presence

    @property
    def file_names(self) -> tuple[str, ...]:
        """Names of the images, as annotated."""
        return self.labeled.file_names

    def __len__(self) -> int:
        return len(self.labeled)

    def name(self, index: int) -> str:
        """File name of image `index`, as annotated."""
        return self.labeled.file_names[index]

    def only(self, names: Collection[str]) -> CocoImages:
        """Those of the images whose file name, as annotated, is among `names`."""
        rows = [row for row, name in enumerate(self.file_names) if name in names]
        return CocoImages(self.labeled.only(rows), self.config, self.augmentation, self.sampling)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Augment image `index`.

        Raises:
            AnnotationError: the image has another size than annotated.
        """
        scene = self._scene(index, rng)
        if self.augmentation.paste and rng.random() < self.augmentation.paste:
            scene = self._pasted(scene, rng)
        return make_sample(scene, self.config.resolution)

    def _scene(self, index: int, rng: np.random.Generator) -> Scene:
        record, inputs = self.labeled.records[index], self.config.input
        pixels = read_image(self.labeled.folder / record.file_name)
        check_size(pixels, {"file_name": record.file_name, "height": record.height, "width": record.width})
        size = fit_size((record.height, record.width), (inputs.test_short, inputs.test_long))
        image = augment(pixels, record.masks(), size, self.augmentation, rng, pad_value(inputs))
        return Scene(image, np.array(record.classes, np.int64), np.array(record.crowds, bool))

    def _pasted(self, scene: Scene, rng: np.random.Generator) -> Scene:
        """Paste instances of a random image that shows a random class, those of that class first."""
        class_id = rng.choice(len(self._holders), p=self._odds)
        donor = self._scene(int(rng.choice(self._holders[class_id])), rng)
        whole = ~donor.ignored & (donor.image.masks.sum(axis=(1, 2)) >= SMALLEST_INSTANCE)
        rows = rng.permutation(np.flatnonzero(whole))
        wanted_first = rows[np.argsort(donor.classes[rows] != class_id, kind="stable")]
        return paste(scene, donor, wanted_first[: rng.integers(1, self.augmentation.paste_most + 1)])

    @cached_property
    def _holders(self) -> list[NDArray[np.int64]]:
        """Per class, the images that show it."""
        return [np.flatnonzero(column) for column in self.presence.T]

    @cached_property
    def _odds(self) -> NDArray[np.float64]:
        """How likely each class is pasted: as likely as any other that occurs, times its factor."""
        weights = self.class_factors * np.array([len(holders) > 0 for holders in self._holders])
        return np.asarray(weights / weights.sum(), np.float64)
