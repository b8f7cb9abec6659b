"""Predict image files on several processes or a cluster: the same overlays and COCO file as in one process."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

import msgspec

from blendmask_edge.batch.files import FilesWork, PredictedFile
from blendmask_edge.batch.source import BundleSource
from blendmask_edge.cli.output import encode_json
from blendmask_edge.cli.predict_files import (
    INSTANCES_NAME,
    OVERLAY_SUFFIX,
    Options,
    Predictions,
    categories_of,
    missing_folders,
    move_up,
    remove_empty,
    unused_name,
)
from blendmask_edge.cli.sources import is_video, name_of
from blendmask_edge.errors import ConfigError, ImageError
from blendmask_edge.execution.shards import do_work
from blendmask_edge.imaging import read_image
from blendmask_edge.storage.atomic import output_error, replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.batch.files import Named
    from blendmask_edge.cli.sources import Source
    from blendmask_edge.execution.shards import Results
    from blendmask_edge.execution.work import Executor
    from blendmask_edge.predictor import MaskPredictor

Result = Tuple["Named", PredictedFile]
SHARDS_NAME = ".predict.shards"
"""Folder for finished overlays and shards within the output folder, from which the same command continues."""


@dataclass(frozen=True)
class Place:
    """Where the work is done: the executor, the threads of each worker, and what is called for each image."""

    executor: Executor
    threads: Optional[int]
    on_image: Callable[[], None]


def predict_many(
    predictor: MaskPredictor, sources: List[Source], folder: Path, on_failure: Callable[[str], None], options: Options,
    place: Place,
) -> Predictions:  # fmt: skip
    """Write an overlay for each image and `instances.json` for all of them into `folder`, as `predict_files`.

    Finished images are kept when the work is interrupted or killed, and the same command continues from them. Memory
    does not grow with the number of images.

    Args:
        predictor: an open predictor, whose bundle and options the workers take.
        sources: images.
        folder: is made where it is missing.
        on_failure: takes the message of each file that cannot be read or predicted.
        options: how to predict.
        place: where the work is done.

    Raises:
        ConfigError: a source is a video or camera.
        OutputError: the folder cannot be written.
        WorkerError: as the executor.
    """
    files, made = _require_images(sources), missing_folders(folder)
    predictor.warm_up(image=_first_readable(files))  # "auto" chooses once, for all workers
    shards = folder / SHARDS_NAME
    try:
        shards.mkdir(parents=True, exist_ok=True)
        source = BundleSource.of(predictor, place.threads)
        work = FilesWork(source, _named(files), shards, options.classes, options.is_tiled)
        with do_work(work, place.executor, place.on_image, shards) as results:
            each = partial(_each, work.files, results)
            predicted = _summed_up(predictor, each(), on_failure)
            if predicted.image_count:
                with replacing(shards / INSTANCES_NAME) as stream:
                    _write_document(stream, each, predicted.categories)
                written = [shards / name for _, name in work.files if (shards / name).exists()]
                move_up([*written, shards / INSTANCES_NAME], folder)
            for left in shards.glob(f"*{OVERLAY_SUFFIX}"):  # of other images, from a run that was killed
                left.unlink()
        return predicted
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        remove_empty(made)


def _require_images(sources: List[Source]) -> List[Path]:
    videos = [source for source in sources if isinstance(source, str) or is_video(source)]
    if videos:
        raise ConfigError(
            f"{name_of(videos[0])} is a video or camera, whose frames follow each other: --processes and --ray are for "
            "images. Leave them out, or give images only."
        )
    return [Path(source) for source in sources]


def _first_readable(files: List[Path]) -> Optional[NDArray[np.uint8]]:
    for file in files:
        with contextlib.suppress(ImageError):
            return read_image(file)
    return None


def _named(files: List[Path]) -> List[Named]:
    taken: Set[str] = set()
    return [(str(file), unused_name(file.stem, OVERLAY_SUFFIX, taken)) for file in files]


def _each(files: Sequence[Named], results: Results) -> Iterator[Result]:
    """Go through the files with their results, one shard in memory at a time."""
    predicted = (one for part in results() for one in msgspec.json.decode(part, type=List[PredictedFile]))
    return zip(files, predicted)


def _summed_up(predictor: MaskPredictor, predicted: Iterator[Result], on_failure: Callable[[str], None]) -> Predictions:
    """Count images and instances, and report failures."""
    predictions = Predictions(categories=categories_of(predictor.manifest))
    for (file, _), one in predicted:
        if one.error:
            predictions.failures.append((Path(file), one.error))
            on_failure(one.error)
        else:
            predictions.count(one.annotations)
    return predictions


def _write_document(stream: BinaryIO, each: Callable[[], Iterator[Result]], categories: List[Dict[str, Any]]) -> None:
    """Write the COCO document image by image, in the bytes that `predict_files` writes."""
    stream.write(b'{"images":')
    _write_list(stream, _images(each()))
    stream.write(b',"annotations":')
    _write_list(stream, _annotations(each()))
    stream.write(b',"categories":' + encode_json(categories) + b"}")


def _images(predicted: Iterator[Result]) -> Iterator[Dict[str, Any]]:
    sized = ((named, one.size) for named, one in predicted if one.size is not None)
    for number, ((file, overlay), (height, width)) in enumerate(sized, start=1):
        yield {"id": number, "height": height, "width": width, "file_name": file, "overlay": overlay}


def _annotations(predicted: Iterator[Result]) -> Iterator[Dict[str, Any]]:
    lists = (one.annotations for _, one in predicted if not one.error)
    numbered = ((number, annotation) for number, annotations in enumerate(lists, start=1) for annotation in annotations)
    for identity, (number, annotation) in enumerate(numbered, start=1):
        yield {"id": identity, **annotation, "image_id": number}


def _write_list(stream: BinaryIO, entries: Iterator[Dict[str, Any]]) -> None:
    between = b"["
    for entry in entries:
        stream.write(between + encode_json(entry))
        between = b","
    stream.write(b"[]" if between == b"[" else b"]")
