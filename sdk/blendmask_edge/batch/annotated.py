"""COCO results of annotated images, on any executor."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Tuple

import msgspec

from blendmask_edge.batch.identity import files_identity
from blendmask_edge.evaluation.annotations import check_size
from blendmask_edge.evaluation.predictions import OnImage, Results, ignore
from blendmask_edge.execution.shards import do_work
from blendmask_edge.execution.work import described
from blendmask_edge.imaging import read_image

if TYPE_CHECKING:
    from blendmask_edge.batch.source import PredictorSource
    from blendmask_edge.evaluation.annotations import AnnotatedImages
    from blendmask_edge.execution.work import Executor, Opener, Process
    from blendmask_edge.storage.atomic import PathLike

Entries = List[Dict[str, Any]]
"""COCO entries of images: id, file_name, height, width."""


def predict_annotated(
    source: PredictorSource, images: AnnotatedImages, executor: Executor, on_image: OnImage = ignore,
    shards: Optional[PathLike] = None,
) -> Results:  # fmt: skip
    """Return the COCO results of annotated images, the same on every executor.

    Args:
        source: of the predictor.
        images: annotated.
        executor: where they are predicted.
        on_image: called for each image that is predicted.
        shards: folder for finished results, from which the same call continues after an interruption; None for none.

    Raises:
        AnnotationError, ImageError: as `AnnotatedImages.read`.
        OutputError, WorkerError: as `do_work`.
    """
    with do_work(AnnotatedWork(source, images), executor, on_image, shards) as parts:
        return [result for part in parts() for result in msgspec.json.decode(part)]


@dataclass(frozen=True)
class _AnnotatedOpener:
    """Opens a predictor for images of a folder."""

    source: PredictorSource
    folder: Path

    @contextmanager
    def __call__(self) -> Iterator[Process]:
        with self.source.open() as predictor:

            def process(entries: Entries) -> bytes:
                results: Results = []
                for entry in entries:
                    image = read_image(self.folder / entry["file_name"])
                    check_size(image, entry)
                    results += predictor(image).to_coco(entry["id"])
                return msgspec.json.encode(results)

            yield process


@dataclass(frozen=True)
class AnnotatedWork:
    """Prediction of annotated images; the results of a shard are a JSON list.

    source: of the predictor.
    images: annotated.
    """

    source: PredictorSource
    images: AnnotatedImages

    @property
    def total(self) -> int:
        """Return the number of images."""
        return len(self.images.ids)

    @cached_property
    def identity(self) -> str:
        """Return a digest of the predictor, and of the names, sizes and times of the image files."""
        return files_identity(self.source.identity, zip(self.images.ids, self.images.paths))

    @property
    def opener(self) -> Opener:
        """Return what opens the predictor in a worker."""
        return _AnnotatedOpener(self.source, Path(self.images.folder).absolute())

    @property
    def needs(self) -> Tuple[str, ...]:
        """Return the paths of the network and of the folder."""
        return (*self.source.needs, str(Path(self.images.folder).absolute()))

    def payload(self, items: range) -> Entries:
        """Return the entries of some images."""
        keys = ("id", "file_name", "height", "width")
        entries = (self.images.coco.imgs[self.images.ids[item]] for item in items)
        return [{key: entry[key] for key in keys} for entry in entries]

    def describe(self, items: range) -> str:
        """Return some images by number and name."""
        names = [str(self.images.coco.imgs[image_id]["file_name"]) for image_id in self.images.ids]
        return described("image", items, names)
