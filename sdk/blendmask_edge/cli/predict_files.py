"""Predict images, videos and cameras: overlays to look at and one COCO file."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from blendmask_edge.batch.files import annotations_of, predict_file
from blendmask_edge.cli.output import encode_json
from blendmask_edge.cli.sources import is_video, name_of, stem_of
from blendmask_edge.errors import BlendMaskError, ImageError, InferenceError
from blendmask_edge.storage.atomic import output_error
from blendmask_edge.storage.temporary import temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.manifest import Manifest
    from blendmask_edge.cli.sources import Source
    from blendmask_edge.instances import Instances
    from blendmask_edge.predictor import MaskPredictor
    from blendmask_edge.storage.atomic import PathLike
    from blendmask_edge.streaming.report import StreamReport

    Image = NDArray[np.uint8]

INSTANCES_NAME = "instances.json"
OVERLAY_SUFFIX = ".overlay.jpg"
_MOST_STEM_BYTES = 200


@dataclass(frozen=True)
class Options:
    """How to predict.

    classes: names of the classes to return; None returns all.
    is_tiled: whether images are predicted in tiles of the network's input size.
    track: whether the instances of videos and cameras get track ids.
    show: takes each overlay of a video or camera, BGR, and returns whether to go on with it.
    """

    classes: Optional[List[str]] = None
    is_tiled: bool = False
    track: bool = False
    show: Optional[Callable[[Image], bool]] = None


@dataclass
class Predictions:
    """The predictions, and the files that could not be read.

    categories: COCO categories of the bundle.
    failures: (source, message) of each file or frame that could not be read or predicted.
    failed_frames: how many of them are frames of videos and cameras.
    reports: rate and losses of each video and camera.
    interrupted: whether the user ended the work before all files were predicted.
    image_count: number of images and frames.
    counts: number of instances by category id.
    """

    categories: List[Dict[str, Any]] = field(default_factory=list)
    failures: List[Tuple[Source, str]] = field(default_factory=list)
    failed_frames: int = 0
    reports: List[Tuple[Source, StreamReport]] = field(default_factory=list)
    interrupted: bool = False
    image_count: int = 0
    counts: Dict[int, int] = field(default_factory=dict)

    def count(self, annotations: List[Dict[str, Any]]) -> None:
        """Count one image or frame with its instances."""
        self.image_count += 1
        for annotation in annotations:
            category = annotation["category_id"]
            self.counts[category] = self.counts.get(category, 0) + 1


class _Entries:
    """A list in a JSON document in the making: its entries are on disk, so that memory does not grow with them."""

    def __init__(self, file: IO[bytes]) -> None:
        """Begin an empty list in an empty file."""
        self._file = file
        self._end = self.count = 0

    def append(self, entry: Dict[str, Any]) -> None:
        """Append an entry."""
        self._file.write((b"," if self.count else b"") + encode_json(entry))
        self.count += 1

    def complete(self) -> None:
        """Mark the entries so far as those of complete images."""
        self._end = self._file.tell()

    def write(self, stream: BinaryIO) -> None:
        """Write the list, without entries of an image that an interruption left incomplete."""
        self._file.truncate(self._end)
        self._file.seek(0)
        stream.write(b"[")
        shutil.copyfileobj(self._file, stream)
        stream.write(b"]")


@dataclass(frozen=True)
class _Document:
    """A COCO document in the making.

    images: with their `overlay`; those of a video have the `frame` as well, from 0.
    annotations: with their `score`.
    """

    images: _Entries
    annotations: _Entries

    def add(self, instances: Instances, annotations: List[Dict[str, Any]], **image: Any) -> None:
        """Append one image or frame with its annotations."""
        height, width = instances.image_size
        image_id = self.images.count + 1
        self.images.append({"id": image_id, "height": height, "width": width, **image})
        for annotation in annotations:
            self.annotations.append({"id": self.annotations.count + 1, **annotation, "image_id": image_id})
        self.images.complete()
        self.annotations.complete()

    def write(self, path: Path, categories: List[Dict[str, Any]]) -> None:
        """Write the document."""
        with path.open("wb") as stream:
            stream.write(b'{"images":')
            self.images.write(stream)
            stream.write(b',"annotations":')
            self.annotations.write(stream)
            stream.write(b',"categories":' + encode_json(categories) + b"}")


@contextlib.contextmanager
def _document(folder: Path) -> Iterator[_Document]:
    """Give an empty document, whose entries are in files without names in a folder."""
    with tempfile.TemporaryFile(dir=folder) as images, tempfile.TemporaryFile(dir=folder) as annotations:
        yield _Document(_Entries(images), _Entries(annotations))


def predict_files(
    predictor: MaskPredictor,
    sources: Iterable[Source],
    folder: PathLike,
    on_failure: Callable[[str], None],
    options: Options,
) -> Predictions:
    """Write an overlay for each source and `instances.json` for all of them into `folder`.

    A file that cannot be read or predicted is reported and the rest goes on. The results appear at the end, all at
    once; where no file can be read, none do. An interruption by the user ends the work, and keeps what is done.

    Args:
        predictor: an open predictor.
        sources: images, and videos by their suffix; cameras and URLs.
        folder: is made where it is missing.
        on_failure: takes the message of each file or frame that cannot be read or predicted.
        options: how to predict.

    Raises:
        OutputError: the folder cannot be written.
    """
    predictions = Predictions(categories=categories_of(predictor.manifest))
    with _staged(Path(folder)) as stage, _document(stage) as document:
        writer = _Writer(predictor, stage, predictions, on_failure, options, document)
        try:
            _predict_all(writer, sources)
        except KeyboardInterrupt:
            predictions.interrupted = True
        if predictions.image_count:
            document.write(stage / INSTANCES_NAME, predictions.categories)
    return predictions


def _predict_all(writer: _Writer, sources: Iterable[Source]) -> None:
    for source in sources:
        try:
            writer.predict(source)
        except (ImageError, InferenceError) as error:
            writer.fail(source, str(error))


@dataclass
class _Writer:
    """Predicts sources one by one, with an overlay of each in `stage`."""

    predictor: MaskPredictor
    stage: Path
    predictions: Predictions
    on_failure: Callable[[str], None]
    options: Options
    document: _Document
    taken: Set[str] = field(default_factory=set)

    def predict(self, source: Source) -> None:
        if isinstance(source, str) or is_video(source):
            self._predict_video(source)
        else:
            self._predict_image(source)

    def fail(self, source: Source, message: str) -> None:
        self.predictions.failures.append((source, message))
        self.on_failure(message)

    def _predict_image(self, file: Path) -> None:
        overlay = unused_name(file.stem, OVERLAY_SUFFIX, self.taken)
        instances = predict_file(
            self.predictor, file, self.stage / overlay, self.options.classes, self.options.is_tiled
        )
        self._add(instances, file_name=str(file), overlay=overlay)

    def _add(self, instances: Instances, **image: Any) -> None:
        annotations = annotations_of(instances)
        self.document.add(instances, annotations, **image)
        self.predictions.count(annotations)

    def _predict_video(self, source: Source) -> None:
        def fail(index: int, error: BlendMaskError) -> None:
            self.predictions.failed_frames += 1
            self.fail(source, f"{name_of(source)}, frame {index}: {error}")

        stream = self.predictor.stream(
            source, channels="bgr", on_error=fail, classes=self.options.classes, track=self.options.track
        )
        from blendmask_edge.cli.video import VideoWriter  # which needs OpenCV

        overlay = unused_name(stem_of(source), ".overlay.mp4", self.taken)
        writer = VideoWriter(self.stage / overlay, stream.source_rate)
        with stream:
            try:
                for result in stream:
                    overlaid = result.instances.draw(result.frame)
                    writer.write(overlaid)
                    self._add(result.instances, file_name=name_of(source), frame=result.index, overlay=overlay)
                    if self.options.show is not None and not self.options.show(overlaid):
                        break
            finally:
                writer.close()
                self.predictions.reports.append((source, stream.report))


def unused_name(stem: str, suffix: str, taken: Set[str]) -> str:
    """Return a file name that is not taken yet, and take it."""
    while len(os.fsencode(stem)) > _MOST_STEM_BYTES:  # a name has 255 bytes in most file systems
        stem = stem[:-1]
    name, number = f"{stem}{suffix}", 2
    while name in taken:
        name, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(name)
    return name


def categories_of(manifest: Manifest) -> List[Dict[str, Any]]:
    """Return the COCO categories of a bundle."""
    return [{"id": number, "name": name} for number, name in zip(manifest.category_ids, manifest.classes)]


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside `folder`, whose files are moved up when the block ends well."""
    made = missing_folders(folder)
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with temporary_folder(folder) as stage:
                yield stage
                move_up(list(stage.iterdir()), folder)
        finally:
            remove_empty(made)
    except OSError as error:
        raise output_error(folder, error) from error


def move_up(files: Iterable[Path], folder: Path) -> None:
    """Move files, the document that names the others last; none where a folder is in the way of one."""
    ordered = sorted(files, key=lambda file: file.name == INSTANCES_NAME)
    for file in ordered:
        target = folder / file.name
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{file.name} there is a folder")
    for file in ordered:
        file.replace(folder / file.name)


def missing_folders(folder: Path) -> List[Path]:
    """Return a folder and those above it, the innermost first, as far as they do not exist."""
    return [path for path in (folder, *folder.parents) if not os.path.exists(path)]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
