"""Read predictions from files: the folder of `blendmask predict`, its `instances.json`, or a list of COCO results."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Optional, Sequence, Set, Tuple, Type, TypeVar, Union

import msgspec

from blendmask_edge.comparison.detections import Detection, PredictedImage, Predictions, short_names
from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.annotations import is_file
from blendmask_edge.evaluation.coco_file import MAX_FILE_BYTES
from blendmask_edge.evaluation.coco_masks import Mask, RunLengths, compressed, masks_fault
from blendmask_edge.imaging.headers import MAX_SIDE
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

INSTANCES_NAME = "instances.json"
_LONE_SURROGATE = re.compile(rb"\\u[dD][cC-fF]")
_ADVICE = "Write predictions with `blendmask predict M.bmz IMAGES --output DIR`, and give DIR"


class _Image(msgspec.Struct):
    id: int
    file_name: str
    height: int
    width: int
    frame: Optional[int] = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Result(msgspec.Struct):
    image_id: int
    category_id: int
    score: float
    segmentation: Mask
    bbox: Tuple[float, float, float, float]


class _Document(msgspec.Struct):
    images: List[_Image]
    annotations: List[_Result]
    categories: List[_Category]


Decoded = TypeVar("Decoded")


def read_predictions(path: PathLike, images: Optional[PathLike], coco: Any = None) -> Predictions:
    """Read predictions, checked in every field.

    Args:
        path: a folder of `blendmask predict`, its JSON file, or a JSON list of COCO results.
        images: folder of the images, to show them; None takes the paths in the file.
        coco: annotations (`COCO`) that name the images and categories of COCO results.

    Raises:
        AnnotationError: the file cannot be read, an entry lacks a field or has one out of range, or COCO results come
            without annotations.
    """
    location = Path(path)
    file = location / INSTANCES_NAME if location.is_dir() else location
    data = _read(file)
    if data.lstrip()[:1] == b"[":
        document = _of_results(file, _decode(file, data, List[_Result]), coco)
    else:
        document = _decode(file, data, _Document)
    _check(file, document)
    return Predictions(str(path), _images(document, location if location.is_dir() else location.parent, images))


def _read(file: Path) -> bytes:
    try:
        return read_bounded(file, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AnnotationError(f"Cannot read predictions from {file}: {reason}. {_ADVICE}.") from error


def _decode(file: Path, data: bytes, kind: Type[Decoded]) -> Decoded:
    try:
        if _LONE_SURROGATE.search(data):  # of a file name that is not UTF-8, which msgspec does not read
            return msgspec.convert(json.loads(data, parse_constant=_refuse_constant), kind)
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise AnnotationError(f"{file} holds no predictions with masks: {str(error)[:200]}. {_ADVICE}.") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _of_results(file: Path, results: List[_Result], coco: Any) -> _Document:
    """Give COCO results the images and categories of their annotations."""
    if coco is None:
        raise AnnotationError(
            f"{file} is a list of COCO results, which does not name its images. Give their annotations too: "
            "--annotations J.json"
        )
    images = [_Image(i["id"], i["file_name"], i["height"], i["width"]) for i in coco.dataset["images"]]
    return _Document(images, results, [_Category(c["id"], c["name"]) for c in coco.dataset["categories"]])


def _check(file: Path, document: _Document) -> None:
    """Check what the types do not tell, before native code sees a mask."""
    sizes = {image.id: (image.height, image.width) for image in document.images}
    if len(sizes) != len(document.images):
        raise AnnotationError(f"{file} uses an image id twice. {_ADVICE}.")
    if not all(1 <= side <= MAX_SIDE for size in sizes.values() for side in size):
        raise AnnotationError(f"{file} has an image whose sides are not 1 to {MAX_SIDE} pixels. {_ADVICE}.")
    if len(set(_names(document.images))) != len(document.images):
        raise AnnotationError(f"{file} names an image twice. {_ADVICE}.")
    known = {category.id for category in document.categories}
    for index, result in enumerate(document.annotations):
        fault = _fault(result, sizes, known)
        if fault:
            raise AnnotationError(f"{file}, annotation {index}: {fault}. {_ADVICE}.")
    wrong = masks_fault(
        [result.segmentation for result in document.annotations],
        [sizes[result.image_id] for result in document.annotations],
    )
    if wrong is not None:
        raise AnnotationError(f"{file}, annotation {wrong[0]}: `segmentation` {wrong[1]}. {_ADVICE}.")


def _fault(result: _Result, sizes: Dict[int, Tuple[int, int]], categories: Set[int]) -> str:
    if result.image_id not in sizes:
        return f"`image_id` is {result.image_id}, expected the id of an image"
    if result.category_id not in categories:
        return f"`category_id` is {result.category_id}, expected the id of a category"
    if not 0 <= result.score <= 1:
        return f"`score` is {result.score}, expected 0 to 1"
    if not all(abs(value) <= 4 * MAX_SIDE for value in result.bbox) or min(result.bbox[2:]) < 0:
        return f"`bbox` is {list(result.bbox)}, expected [x, y, width, height] in pixels"
    return ""


def _images(document: _Document, folder: Path, images: Optional[PathLike]) -> Dict[str, PredictedImage]:
    names = {category.id: category.name for category in document.categories}
    sizes = {image.id: (image.height, image.width) for image in document.images}
    detections: Dict[int, List[Detection]] = {image.id: [] for image in document.images}
    for result in document.annotations:
        height, width = sizes[result.image_id]
        rle = compressed(_plain(result.segmentation), height, width)
        detections[result.image_id].append(Detection(names[result.category_id], result.score, result.bbox, rle))
    return {
        name: PredictedImage(
            sizes[image.id],
            sorted(detections[image.id], key=lambda detection: -detection.score),
            _file(image, folder, images),
        )
        for name, image in zip(_names(document.images), document.images)
    }


def _plain(mask: Union[RunLengths, List[List[float]]]) -> Any:
    return mask if isinstance(mask, list) else {"size": list(mask.size), "counts": mask.counts}


def _names(images: Sequence[_Image]) -> List[str]:
    numbers = ["" if image.frame is None else f", frame {image.frame}" for image in images]
    return short_names([image.file_name + number for image, number in zip(images, numbers)])


def _file(image: _Image, folder: Path, images: Optional[PathLike]) -> Optional[Path]:
    """Return where an image lies; None if it is nowhere, or is the frame of a video."""
    if image.frame is not None:
        return None
    name = Path(image.file_name)
    places = [folder / name, name] if images is None else [Path(images) / name, Path(images) / name.name]
    return next((place for place in places if is_file(place)), None)
