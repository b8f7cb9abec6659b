"""The augmented images of a whole training run, in order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from blendmask_edge.errors import AnnotationError, ImageError
from blendmask_edge.labels import Labels
from blendmask_quantize.training.samples import Sample
from blendmask_quantize.training.sampling import EVEN, SamplingOptions, repeat_factors, repeated

_TRIES = 10  # images one after the other that may be damaged

_LOG = logging.getLogger(__name__)


class Images(Protocol):
    """Where augmented images come from."""

    @property
    def labels(self) -> Labels:
        """Meaning of the classes."""
        ...

    @property
    def presence(self) -> NDArray[np.bool_]:
        """(images, classes) bool, whether an image shows an instance of the class."""
        ...

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Name of image `index`."""
        ...

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """Augment image `index`."""
        ...


class AugmentedStream(Dataset[Sample]):
    """Item i is the same in every run with the same seed, whatever was asked for before.

    Each pass over the images of all sources is a new permutation, so a run that starts at item i goes on exactly as
    one that never stopped.

    Attributes:
        labels: of all sources.
        factors: (images,) how many times each is shown a pass.
        pass_length: samples in a pass.

    Args:
        sources: images with the same labels.
        length: samples in the run.
        seed: fixes the permutations and the augmentation.
        sampling: which images are shown more than once a pass.

    Raises:
        AnnotationError: the sources name different categories.
        ConfigError: the sampling names an unknown class.
    """

    def __init__(self, sources: Sequence[Images], length: int, seed: int, sampling: SamplingOptions = EVEN) -> None:
        if any(source.labels != sources[0].labels for source in sources):
            raise AnnotationError("the annotation files name different categories: train on files with the same ones")
        self.sources, self.labels = tuple(sources), sources[0].labels
        self.length, self.seed = length, seed
        self._ends = np.cumsum([len(source) for source in sources])
        presence = np.concatenate([source.presence for source in sources])
        self.factors = repeat_factors(presence, self.labels.names, sampling)
        self.pass_length = round(float(self.factors.sum()))
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    @property
    def num_images(self) -> int:
        """Images of all sources."""
        return int(self._ends[-1])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Sample:
        """Augment the image of an item; in place of one that is damaged, which is logged, the next one is taken.

        Raises:
            ImageError: several in a row are damaged.
            AnnotationError: an image has another size than annotated.
        """
        row, seed = self._place(item)
        for tried in range(_TRIES):
            source, index = self._image((row + tried) % self.num_images)
            try:
                return source.sample(index, np.random.default_rng(seed))
            except ImageError as error:
                _LOG.warning("%s Another image takes its place.", error)
                damaged = error
        raise damaged

    def name(self, item: int) -> str:
        """Name of the image that item `item` shows."""
        source, index = self._image(self._place(item)[0])
        return source.name(index)

    def _place(self, item: int) -> tuple[int, tuple[int, int, int]]:
        """Row among the images of all sources, and seed of an item."""
        epoch, position = divmod(item, self.pass_length)
        return int(self._order_of(epoch)[position]), (self.seed, epoch, position)

    def _image(self, row: int) -> tuple[Images, int]:
        """Source of a row, and the image within it."""
        source = int(np.searchsorted(self._ends, row, side="right"))
        first = int(self._ends[source - 1]) if source else 0
        return self.sources[source], row - first

    def _order_of(self, epoch: int) -> NDArray[np.int64]:
        """Rows of a pass in the order they are shown; that of the last pass is kept."""
        if self._order[0] != epoch:
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(self.pass_length)
            self._order = epoch, repeated(self.factors, rng.random())[order]
        return self._order[1]
