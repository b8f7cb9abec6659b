"""A calibration set: the images of a folder, or whatever an iterable gives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt

from blendmask_calibration.errors import CalibrationError
from blendmask_calibration.images import CalibrationImage, describe, describe_pixels, require_rgb
from blendmask_calibration.sampling import list_images, other_files, sample, shuffled

Pixels = npt.NDArray[np.uint8]
Reader = Callable[[Path], Pixels]
"""Decodes a file to uint8 (H, W, 3) RGB. The product's own, so that calibration sees what the network will see."""


@dataclass(frozen=True)
class Sample:
    """One image of a dataset, possibly not read yet.

    Attributes:
        name: path below the folder, or position in the source, e.g. "12" or "3/0" for the first image of a batch.
        path: of the file; None where the source gives arrays.
        load: returns the pixels, given a decoder of files.
    """

    name: str
    path: Path | None
    load: Callable[[Reader], Pixels]

    def describe(self, rgb: Pixels) -> CalibrationImage:
        """Return the record of the image whose pixels are `rgb`: the hash is of the file, or of the array's bytes."""
        if self.path is None:
            return describe_pixels(self.name, rgb)
        return describe(self.path, rgb, self.path.parents[len(Path(self.name).parts) - 1])


def file_sample(path: Path, root: Path) -> Sample:
    """The sample of a file below the folder `root`."""
    return Sample(path.relative_to(root).as_posix(), path, partial(_read, path))


@dataclass(frozen=True)
class Draw:
    """The samples that a seed takes of a dataset. Read `first` to its end before `rest`.

    Attributes:
        first: samples to calibrate on.
        rest: samples beyond those.
        total: number of images in the dataset; None where that cannot be told before they are read.
    """

    first: Iterable[Sample]
    rest: Iterable[Sample]
    total: int | None


class CalibrationDataset:
    """Images to calibrate on.

    Args:
        source: a folder, searched with its subfolders; or an iterable of images, or of anything that `transform` makes
            images of, such as a torch `DataLoader`. An image is a uint8 array (H, W, 3) in RGB, of any size, as the
            camera gives it; a batch (N, H, W, 3) counts as N images.
        transform: from an item of the iterable to an image or a batch.

    Attributes:
        folder: that the images lie in; None where they come from an iterable.

    Raises:
        CalibrationError: the source is neither a folder nor an iterable, or has a transform that cannot apply.

    Example:
        >>> CalibrationDataset("photos")  # doctest: +SKIP
        >>> CalibrationDataset(loader, lambda batch: batch["image"])  # doctest: +SKIP
    """

    def __init__(self, source: str | os.PathLike[str] | Iterable[Any], transform: Callable[[Any], Any] | None = None):
        self.folder = Path(source) if isinstance(source, (str, os.PathLike)) else None
        if self.folder is not None and transform is not None:
            raise CalibrationError(
                f"A transform was given for the folder {self.folder}. It applies to the items of an iterable: leave "
                "it out, or give an iterable."
            )
        if self.folder is not None and not self.folder.is_dir():
            raise CalibrationError(
                f"{self.folder} is not a folder. Expected a folder of images: check the path and try again."
            )
        if isinstance(source, (bytes, bytearray)) or not (self.folder or _iterable(source)):
            raise CalibrationError(
                f"The calibration source is of type {type(source).__name__}. Expected a folder, or an iterable of "
                "uint8 images (height, width, 3) in RGB."
            )
        self._source: Any = source
        self._transform = transform if transform is not None else _unchanged

    def draw(self, count: int, seed: int, spare: int) -> Draw:
        """Take `count` images at most, and up to `spare` others.

        Of a folder, or a sequence with a length, the seed chooses; an iterable is read in its own order, and no
        further than needed.

        Raises:
            CalibrationError: `count` is below 1, or the folder has gone.
        """
        if count < 1:
            raise CalibrationError(f"A sample of {count} images was asked for. Ask for at least 1.")
        if self.folder is None:
            samples = self._arrays(seed)
            return Draw(islice(samples, count), islice(samples, spare), None)
        files = list_images(self.folder)
        ordered = [file_sample(path, self.folder) for path in sample(files, max(len(files), 1), seed)]
        # The last of them, from which training with quantizers holds out its images too.
        return Draw(ordered[:count], ordered[count:][-spare:], len(ordered))

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
    """The value as an array; a tensor on the CPU becomes one without a copy."""
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
