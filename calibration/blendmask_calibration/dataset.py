"""Calibration images from a folder, an iterable or a data loader."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError, require, require_whole
from blendmask_calibration.images import CalibrationImage, describe, describe_pixels, require_rgb
from blendmask_calibration.sampling import (
    GIVE_IMAGES,
    describe_other_files,
    holds_image,
    list_images,
    other_files,
    require_seed,
    sample,
    shuffled,
)

Pixels = npt.NDArray[np.uint8]
Reader = Callable[[Path], Pixels]
"""Decodes a file to (H, W, 3) uint8 RGB; pass the one that feeds the network, so that calibration sees its input."""


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, decoded on demand.

    Attributes:
        name: path relative to the folder, or position in the iterable: "12", or "3/0" for the first image of batch 3.
        path: path of the file; None if the source yields arrays.
        load: function that takes a decoder of files and returns the pixels.
    """

    name: str
    path: Path | None
    load: Callable[[Reader], Pixels]

    def describe(self, rgb: Pixels) -> CalibrationImage:
        """Return the record of this image, whose pixels are `rgb`. The hash is of the file, or of the array's bytes."""
        if self.path is None:
            return describe_pixels(self.name, rgb)
        return describe(self.path, rgb, self.path.parents[len(Path(self.name).parts) - 1])


def file_sample(path: Path, root: Path) -> Sample:
    """Return the sample of a file in the folder `root` or its subfolders."""
    return Sample(path.relative_to(root).as_posix(), path, partial(_read, path))


@dataclass(frozen=True)
class Selection:
    """Samples selected from a dataset. Exhaust `samples` before you read `spare`.

    Attributes:
        samples: samples to calibrate on.
        spare: further samples, none of which is in `samples`.
        total: number of images in the dataset; None if it is unknown until they are read.
    """

    samples: Iterable[Sample]
    spare: Iterable[Sample]
    total: int | None


class CalibrationDataset:
    """Collect images for calibration.

    Args:
        source: a folder, which is searched recursively, or an iterable, such as a list of images or a torch
            `DataLoader`. Each item is an image, (H, W, 3) uint8 RGB of any size, or a batch of N images,
            (N, H, W, 3), unless `transform` converts it to one.
        transform: function that converts an item of the iterable to an image or a batch; not allowed with a folder.

    Attributes:
        folder: the folder of the images; None if they come from an iterable.

    Raises:
        CalibrationError: the source is neither a folder nor an iterable, or a transform was given for a folder.

    Example:
        >>> import numpy as np
        >>> from blendmask_calibration import CalibrationDataset
        >>> loader = [{"image": np.zeros((2, 48, 64, 3), np.uint8)}]  # or a torch DataLoader
        >>> dataset = CalibrationDataset(loader, transform=lambda batch: batch["image"])
        >>> [sample.name for sample in dataset.select(count=2, seed=0, spare=0).samples]
        ['0/0', '0/1']
    """

    def __init__(self, source: str | os.PathLike[str] | Iterable[Any], transform: Callable[[Any], Any] | None = None):
        self.folder = Path(source) if isinstance(source, (str, os.PathLike)) else None
        if self.folder is not None and transform is not None:
            raise CalibrationError(
                f"A transform was given for the folder {self.folder}. It applies to the items of an iterable: leave "
                "it out, or give an iterable."
            )
        require(not (isinstance(source, str) and not source), "source", source, "a folder, or an iterable of images")
        if self.folder is not None and not os.path.isdir(self.folder):
            raise CalibrationError(
                f"{self.folder} is not a folder. Expected a folder of images: check the path and try again."
            )
        if isinstance(source, (bytes, bytearray, dict, set)) or not (self.folder or _iterable(source)):
            raise CalibrationError(
                f"The calibration source is of type {type(source).__name__}. Expected a folder, or an iterable of "
                "uint8 images (height, width, 3) in RGB."
            )
        require(transform is None or callable(transform), "transform", transform, "a function, or None")
        self._source: Any = source
        self._transform = transform if transform is not None else _unchanged

    def select(self, count: int, seed: int, spare: int) -> Selection:
        """Select up to `count` images for calibration and up to `spare` others.

        A folder, or a sequence with a length, is sampled at random. Other iterables are read in their own order and
        no further than needed.

        Args:
            count: largest number of samples, 1 or more.
            seed: seed of the random order.
            spare: largest number of further samples.

        Raises:
            CalibrationError: an argument has another type or is out of range, or the folder no longer exists.
        """
        require_whole("count", count)
        require_whole("spare", spare, 0)
        require_seed(seed)
        if self.folder is None:
            samples = self._arrays(seed)
            return Selection(islice(samples, count), islice(samples, spare), None)
        files = list_images(self.folder)
        ordered = [file_sample(path, self.folder) for path in sample(files, max(len(files), 1), seed)]
        # From the end, as QAT holds out its images: the two overlap as much as they can.
        return Selection(ordered[:count], ordered[count:][-spare:], len(ordered))

    def require_images(self) -> None:
        """Raise unless the folder holds an image file; do nothing for an iterable, which is read later.

        Raises:
            CalibrationError: the folder holds none, no longer exists, or cannot be read.
        """
        if self.folder is not None and not holds_image(self.folder):
            raise CalibrationError(
                f"No calibration images found in {self.folder}. {GIVE_IMAGES}{describe_other_files(self.other_files())}"
            )

    def other_files(self) -> dict[str, int]:
        """Return the number of files in the folder that are not images, by suffix; empty for an iterable."""
        return other_files(self.folder) if self.folder is not None else {}

    def _arrays(self, seed: int) -> Iterator[Sample]:
        for position, item in self._items(seed):
            array = _as_array(self._transform(item), f"Calibration image {position}")
            batch = array if array.ndim == 4 else array[None]
            for index, rgb in enumerate(batch):
                name = f"{position}/{index}" if array.ndim == 4 else str(position)
                require_rgb(rgb, f"Calibration image {name}")
                yield Sample(name, None, partial(_given, rgb))

    def _items(self, seed: int) -> Iterator[tuple[int, Any]]:
        source = self._source
        if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
            return ((position, source[position]) for position in shuffled(range(len(source)), seed))
        return enumerate(source)


def _iterable(source: Any) -> bool:
    return hasattr(source, "__iter__") or (hasattr(source, "__len__") and hasattr(source, "__getitem__"))


def _read(path: Path, reader: Reader) -> Pixels:
    return reader(path)


def _given(rgb: Pixels, _reader: Reader) -> Pixels:
    return rgb


def _unchanged(item: Any) -> Any:
    return item


def _as_array(value: Any, name: str) -> Any:
    """Return the value as an array; a tensor on the CPU is not copied."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise CalibrationError(
            f"{name} is a {type(value).__name__} that is not an array ({error}). Expected uint8 (height, width, 3): "
            "give a `transform` that makes one, on the CPU."
        ) from error
    if array.dtype == object or array.dtype.kind in "USM":
        raise CalibrationError(
            f"{name} is a {type(value).__name__}, not an array. Expected uint8 (height, width, 3): give a "
            "`transform` that picks the image out of each item."
        )
    return array
