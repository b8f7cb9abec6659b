"""Overlays and COCO annotations of image files, on any executor."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple

import msgspec

from blendmask_edge.batch.identity import files_identity
from blendmask_edge.errors import ImageError, InferenceError
from blendmask_edge.execution.work import described
from blendmask_edge.imaging import encode_jpeg, read_image

if TYPE_CHECKING:
    from blendmask_edge.batch.source import BundleSource
    from blendmask_edge.execution.work import Opener, Process
    from blendmask_edge.instances import Instances
    from blendmask_edge.predictor import MaskPredictor

Named = Tuple[str, str]
"""Path of an image, and the name of its overlay."""


class PredictedFile(msgspec.Struct, frozen=True):
    """Result for one file.

    size: height and width in pixels; None where it failed.
    annotations: COCO annotations, without the ids that only all files together give.
    error: message of the failure; empty where there is none.
    """

    size: Optional[Tuple[int, int]]
    annotations: List[Dict[str, Any]] = []
    error: str = ""


def predict_file(
    predictor: MaskPredictor, file: Path, overlay: Path, classes: Optional[Sequence[str]], is_tiled: bool
) -> Instances:
    """Predict an image, and write its overlay.

    Args:
        predictor: an open predictor.
        file: the image.
        overlay: JPEG to write.
        classes: names of the classes; None for all.
        is_tiled: whether the image is predicted in tiles.

    Raises:
        ImageError, InferenceError: the image cannot be read or predicted.
    """
    image = read_image(file)
    predict = predictor.predict_tiled if is_tiled else predictor
    instances = predict(image, classes=classes)
    overlay.write_bytes(encode_jpeg(instances.draw(image)))
    return instances


def annotations_of(instances: Instances) -> List[Dict[str, Any]]:
    """Return COCO annotations with score and area, of image 0."""
    from pycocotools import mask as coco_mask

    return [
        {**result, "area": int(coco_mask.area(result["segmentation"])), "iscrowd": 0} for result in instances.to_coco(0)
    ]


@dataclass(frozen=True)
class _FilesOpener:
    source: BundleSource
    folder: Path
    classes: Optional[Sequence[str]]
    is_tiled: bool

    @contextmanager
    def __call__(self) -> Iterator[Process]:
        with self.source.open() as predictor:
            yield lambda files: msgspec.json.encode([self._predict(predictor, *named) for named in files])

    def _predict(self, predictor: MaskPredictor, file: str, overlay: str) -> PredictedFile:
        try:
            instances = predict_file(predictor, Path(file), self.folder / overlay, self.classes, self.is_tiled)
        except (ImageError, InferenceError) as error:
            return PredictedFile(None, error=str(error).encode("utf-8", "backslashreplace").decode())
        return PredictedFile(instances.image_size, annotations_of(instances))


@dataclass(frozen=True)
class FilesWork:
    """Prediction of image files; the result of a shard is a JSON list of `PredictedFile`.

    source: of the predictor.
    files: images, each with the name of its overlay.
    folder: that overlays are written to.
    classes, is_tiled: as for `predict_file`.
    """

    source: BundleSource
    files: Sequence[Named]
    folder: Path
    classes: Optional[Sequence[str]] = None
    is_tiled: bool = False

    @property
    def total(self) -> int:
        """Return the number of files."""
        return len(self.files)

    @cached_property
    def identity(self) -> str:
        """Return a digest of the predictor, the options, and the names, sizes and times of the files."""
        options = json.dumps([self.source.identity, self.classes, self.is_tiled])
        return files_identity(options, ((overlay, file) for file, overlay in self.files))

    @property
    def opener(self) -> Opener:
        """Return what opens the predictor in a worker."""
        return _FilesOpener(self.source, self.folder.absolute(), self.classes, self.is_tiled)

    @property
    def needs(self) -> Tuple[str, ...]:
        """Return the paths of the bundle and of the folders of overlays and images."""
        folders = dict.fromkeys(str(Path(file).absolute().parent) for file, _ in self.files)
        return (*self.source.needs, str(self.folder.absolute()), *folders)

    def payload(self, items: range) -> List[Named]:
        """Return some of the files."""
        return [(str(Path(file).absolute()), overlay) for file, overlay in self.files[items.start : items.stop]]

    def describe(self, items: range) -> str:
        """Return some of the files by number and name."""
        return described("image", items, [file for file, _ in self.files])
