"""Read a file of COCO instances and check every field that anything relies on, once and completely.

pycocotools takes what it is given: annotation 0 counts as unmatched, lists of four numbers are boxes, and coordinates
that are not finite end the process in native code. So nothing reaches it that was not checked here.
"""

from __future__ import annotations

import contextlib
import gc
import json
import reprlib
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, NoReturn, Optional, Set, Tuple, Type, TypeVar, Union

import msgspec
from pycocotools import mask as rle_codec

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.coco_boxes import complete, needs_mask
from blendmask_edge.evaluation.coco_masks import Mask, RunLengths, compressed, masks_fault
from blendmask_edge.evaluation.coco_parts import COLLECTIONS as _KEYS
from blendmask_edge.evaluation.coco_parts import Parts, holds_a_key_twice, split
from blendmask_edge.imaging.headers import MAX_PIXELS, MAX_SIDE

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

MAX_FILE_BYTES = 2**33
_MAX_ID = 2**63 - 1
_LONGEST_NAME = 256
_LONGEST_PATH = 4096
_LONGEST_SHOWN = 120
_CHUNK = 20_000
"""Annotations whose masks are checked at once."""

Document = Dict[str, List[Dict[str, Any]]]


class Image(msgspec.Struct):
    """An entry under `images`."""

    id: int
    file_name: str
    height: int
    width: int


class Category(msgspec.Struct):
    """An entry under `categories`."""

    id: int
    name: str


class Annotation(msgspec.Struct):
    """An entry under `annotations`; what has a default follows from the other fields."""

    image_id: int
    category_id: int
    segmentation: Mask
    id: Union[int, msgspec.UnsetType, None] = msgspec.UNSET
    iscrowd: Union[int, bool, msgspec.UnsetType] = msgspec.UNSET
    bbox: Union[Tuple[float, float, float, float], msgspec.UnsetType, None] = msgspec.UNSET
    area: Union[float, msgspec.UnsetType, None] = msgspec.UNSET


_DECODER = msgspec.json.Decoder(Annotation)
Entry = TypeVar("Entry", Image, Category, Annotation)
_KINDS: Dict[Any, str] = {Image: "image", Category: "category", Annotation: "annotation"}


class _Fault(ValueError):
    """What is wrong, in half a sentence."""


@dataclass(frozen=True)
class OpenedDocument:
    """A COCO file, of which the annotations are read as they are asked for.

    Attributes:
        images, categories: checked entries.
        annotations: checked entries in the order of the file, once; see `open_document` for what is raised meanwhile.
    """

    images: List[Dict[str, Any]]
    categories: List[Dict[str, Any]]
    annotations: Iterator[Dict[str, Any]]


def open_document(path: PathLike) -> OpenedDocument:
    """Open a COCO instances JSON; the memory it takes does not grow with the annotations that have been read.

    Annotations are renumbered from 1 in the order of the file; a missing `iscrowd` is 0, a `bbox` or `area` that is
    missing or 0 is that of the mask. File names are in their shortest form (`./a.jpg` is `a.jpg`). Fields that nothing
    here uses are left out.

    Args:
        path: the file; at most `MAX_FILE_BYTES`.

    Raises:
        AnnotationError: it cannot be read, is not JSON, or an entry lacks a field or holds one of another type or
            range, or refers to an image or category that is not there. The message names file, entry and field.
    """
    with _naming(path), collection_paused():
        data = _read(Path(path))
        parts = split(data)
        content = _parse(data) if parts is None else parts.content
        images, categories = _entries(content, "images", Image), _entries(content, "categories", Category)
        _check_images(images)
        _check_categories(categories)
    by_id, category_ids = {image.id: image for image in images}, {category.id for category in categories}
    return OpenedDocument(
        [{name: getattr(image, name) for name in Image.__struct_fields__} for image in images],
        [{"id": category.id, "name": category.name} for category in categories],
        _annotations(path, data, parts, by_id, category_ids),
    )


def read_document(path: PathLike) -> Document:
    """Return images, annotations and categories of a COCO instances JSON, checked; see `open_document`.

    Raises:
        AnnotationError: as `open_document`.
    """
    with collection_paused():
        opened = open_document(path)
        return {
            "images": opened.images,
            "annotations": list(opened.annotations),
            "categories": opened.categories,
        }


@contextlib.contextmanager
def _naming(path: PathLike) -> Iterator[None]:
    """Turn a fault into the error that names the file."""
    try:
        yield
    except _Fault as fault:
        raise AnnotationError(f"{path}: {fault}. Correct the file, or export COCO instances again.") from None


@contextlib.contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the garbage collector, which would go through millions of new lists over and over."""
    active = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if active:
            gc.enable()


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise _Fault("it is not a file, expected a JSON file")
        if found.st_size > MAX_FILE_BYTES:
            raise _Fault(f"it has {found.st_size} bytes, expected at most {MAX_FILE_BYTES}")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, _Fault):
            raise
        raise _Fault(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parse(data: bytes) -> Dict[str, Any]:
    """Return the JSON object of a file that holds the three lists."""
    try:
        content = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise _Fault(f"it is not UTF-8 text (byte {error.start}), expected a JSON file") from error
    except RecursionError as error:
        raise _Fault("it nests lists or objects too deeply, expected COCO instances") from error
    except _Fault:
        raise
    except ValueError as error:
        raise _Fault(f"it is not JSON ({str(error)[:_LONGEST_SHOWN]})") from error
    missing = [key for key in _KEYS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise _Fault(f"it lacks the list{'s' * (len(missing) > 1)} {', '.join(missing)}, expected COCO instances")
    empty = [key for key in _KEYS if not content[key]]
    if empty:
        raise _Fault(f"it holds no {', no '.join(empty)}, expected one of each at least")
    return dict(content)


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return a JSON object, no key of which may stand there twice: readers differ on which of two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Fault(
            f"the object with id {shortened(found.get('id'))} holds the key {shortened(twice)} twice, expected once"
        )
    return found


def _entries(content: Dict[str, Any], key: str, kind: Type[Entry]) -> List[Entry]:
    return [_entry(entry, index, kind) for index, entry in enumerate(content[key])]


def _entry(entry: Any, index: int, kind: Type[Entry]) -> Entry:
    try:
        return msgspec.convert(entry, kind)
    except (msgspec.ValidationError, OverflowError, UnicodeError) as error:
        _refuse(kind, entry.get("id") if isinstance(entry, dict) else None, index, _field_fault(entry, str(error)))


def _refuse(kind: Type[Any], number: Any, index: int, problem: str) -> NoReturn:
    """Raise what names an entry by its id and its place in the list."""
    number = None if number is msgspec.UNSET else number
    raise _Fault(f"{_KINDS[kind]} {shortened(number)} (index {index}): {problem}")


def _field_fault(entry: Any, error: str) -> str:
    """Return a validation error of msgspec as field, finding and expectation."""
    problem, _, place = error.partition(" - at `$")
    field = place.strip("`.").partition(".")[0].partition("[")[0]
    segmentation = entry.get("segmentation") if isinstance(entry, dict) else None
    if field == "segmentation" and isinstance(segmentation, list) and not isinstance(segmentation[0], list):
        return "`segmentation` is one flat list, expected a list of polygons [[x1, y1, x2, y2, ...]] or RLE"
    if field and field in entry:
        return f"`{field}`: {_plain(problem)}, found {shortened(entry[field])}"
    return _plain(problem)


def _plain(problem: str) -> str:
    """Return words of msgspec in those of JSON."""
    words = {"array": "list", "Object missing required field": "it lacks the field"}
    for old, new in words.items():
        problem = problem.replace(old, new)
    return problem[:1].lower() + problem[1:]


def shortened(value: Any) -> str:
    """Return a value as it stands in a message, cut."""
    if not isinstance(value, str):
        return reprlib.repr(value)
    return repr(value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + "...")


def _check_images(images: List[Image]) -> None:
    seen: Set[int] = set()
    names: Set[str] = set()
    for index, image in enumerate(images):
        problem = _id_fault(image.id, seen) or _path_fault(image, names) or _size_fault(image)
        if problem:
            _refuse(Image, image.id, index, problem)
        seen.add(image.id)
        names.add(image.file_name)


def _id_fault(number: int, seen: Set[int]) -> Optional[str]:
    if not -_MAX_ID <= number <= _MAX_ID:
        return f"`id` is {shortened(number)}, expected an integer of at most 64 bits"
    return "`id` is used twice, expected one of its own" if number in seen else None


def _path_fault(image: Image, names: Set[str]) -> Optional[str]:
    """Say why an image's name may not be joined to a folder, or is not its own; bring it to its shortest form."""
    shown = f"`file_name` is {shortened(image.file_name)}"
    if not _is_utf8(image.file_name):
        return f"{shown}, which is not UTF-8: rename the file"
    path = PurePosixPath(image.file_name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in image.file_name:
        return f"{shown}, expected a path inside the folder of the images"
    if len(image.file_name) > _LONGEST_PATH:
        return f"{shown}, expected at most {_LONGEST_PATH} characters"
    image.file_name = path.as_posix()
    return (
        f"{shown}, which is used twice: give all annotations of an image one id" if path.as_posix() in names else None
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _size_fault(image: Image) -> Optional[str]:
    for field, value in (("height", image.height), ("width", image.width)):
        if not 1 <= value <= MAX_SIDE:
            return f"`{field}` is {shortened(value)}, expected 1 to {MAX_SIDE} pixels"
    if image.height * image.width > MAX_PIXELS:
        return f"`height` x `width` is {image.height * image.width} pixels, expected at most {MAX_PIXELS}"
    return None


def _check_categories(categories: List[Category]) -> None:
    ids: Set[int] = set()
    names: Set[str] = set()
    for index, category in enumerate(categories):
        problem = _id_fault(category.id, ids) or _name_fault(category.name, names)
        if problem:
            _refuse(Category, category.id, index, problem)
        ids.add(category.id)
        names.add(category.name)


def _name_fault(name: str, names: Set[str]) -> Optional[str]:
    """Say why a category may not be called so; a bundle holds its name, and every table shows it."""
    if name in names:
        return f"`name` {shortened(name)} is used twice, expected one of its own"
    if not name.strip() or len(name) > _LONGEST_NAME or not _is_utf8(name) or not name.isprintable():
        return f"`name` is {shortened(name)}, expected 1 to {_LONGEST_NAME} printable characters"
    return None


def _annotations(
    path: PathLike, data: bytes, parts: Optional[Parts], images: Dict[int, Image], categories: Set[int]
) -> Iterator[Dict[str, Any]]:
    """Yield the annotations, renumbered and complete.

    The quick reader is left at the first thing it does not like; the thorough one then says what is wrong, if anything.
    """
    done, known = 0, _Known(images, categories)
    try:
        for chunk in _chunks(parts.annotations if parts is not None else []):
            checked = known.checked([_decoded(raw) for raw in chunk], done)
            yield from checked
            done += len(checked)
        if done:
            return
    except (_Fault, msgspec.MsgspecError, RecursionError, OverflowError, UnicodeError):
        pass
    with _naming(path), collection_paused():
        raw = _parse(data)["annotations"]
        for start in range(0, len(raw), _CHUNK):
            entries = [
                _entry(entry, index, Annotation) for index, entry in enumerate(raw[start : start + _CHUNK], start)
            ]
            raw[start : start + _CHUNK] = [None] * len(entries)
            yield from known.checked(entries, start)[max(0, done - start) :]


def _chunks(entries: List[Any]) -> Iterator[List[Any]]:
    """Yield entries in chunks, which are let go."""
    for start in range(0, len(entries), _CHUNK):
        chunk = entries[start : start + _CHUNK]
        entries[start : start + _CHUNK] = [None] * len(chunk)
        yield chunk


def _decoded(raw: msgspec.Raw) -> Annotation:
    """Return an annotation as it stands in the file.

    Raises:
        MsgspecError, _Fault: it is none, or holds a key twice.
    """
    found = _DECODER.decode(raw)
    keys = 3 + sum(value is not msgspec.UNSET for value in (found.id, found.iscrowd, found.bbox, found.area))
    mask = found.segmentation
    texts = 0
    if isinstance(mask, RunLengths):
        keys, texts = keys + 2, int(isinstance(mask.counts, str))
    if holds_a_key_twice(raw, keys, texts):
        raise _Fault
    return found


@dataclass(frozen=True)
class _Known:
    """What annotations may refer to."""

    images: Dict[int, Image]
    categories: Set[int]

    def checked(self, annotations: List[Annotation], start: int) -> List[Dict[str, Any]]:
        """Check a chunk of annotations that begins at an index of the file, and return them complete."""
        for index, annotation in enumerate(annotations, start):
            problem = _annotation_fault(annotation, self.images, self.categories)
            if problem:
                _refuse(Annotation, annotation.id, index, problem)
        _check_masks(annotations, start, self.images)
        found = [_as_dict(annotation, number) for number, annotation in enumerate(annotations, start + 1)]
        for index, entry in enumerate(found, start):
            problem = _complete(entry, self.images[entry["image_id"]])
            if problem:
                _refuse(Annotation, annotations[index - start].id, index, problem)
        return found


def _complete(entry: Dict[str, Any], image: Image) -> Optional[str]:
    """Take what an annotation lacks from its mask; say what is wrong with a box of another form."""
    if not needs_mask(entry, image.width, image.height):
        return None
    mask = compressed(entry["segmentation"], image.height, image.width)
    box, area = rle_codec.toBbox(mask).tolist(), float(rle_codec.area(mask))
    return complete(entry, box, area, image.width, image.height)


def _annotation_fault(annotation: Annotation, images: Dict[int, Image], categories: Set[int]) -> Optional[str]:
    image = images.get(annotation.image_id)
    if image is None:
        return f"`image_id` is {shortened(annotation.image_id)}, expected the id of an image in the file"
    if annotation.category_id not in categories:
        return f"`category_id` is {shortened(annotation.category_id)}, expected the id of a category in the file"
    if annotation.iscrowd is not msgspec.UNSET and annotation.iscrowd not in (0, 1):
        return f"`iscrowd` is {shortened(annotation.iscrowd)}, expected 0 or 1"
    return _box_fault(annotation, image)


def _box_fault(annotation: Annotation, image: Image) -> Optional[str]:
    if annotation.bbox:
        x, y, width, height = annotation.bbox
        inside = -image.width <= x <= 2 * image.width and -image.height <= y <= 2 * image.height
        if not (inside and 0 <= width <= 3 * image.width and 0 <= height <= 3 * image.height):
            return (
                f"`bbox` is {shortened(list(annotation.bbox))}, expected [x, y, width, height] in pixels of an image "
                f"of {image.width} x {image.height}"
            )
    if annotation.area and not 0 <= annotation.area <= 9 * image.width * image.height:
        return f"`area` is {shortened(annotation.area)}, expected pixels of an image of {image.width} x {image.height}"
    return None


def _check_masks(annotations: List[Annotation], start: int, images: Dict[int, Image]) -> None:
    sizes = [(images[annotation.image_id].height, images[annotation.image_id].width) for annotation in annotations]
    fault = masks_fault([annotation.segmentation for annotation in annotations], sizes)
    if fault is not None:
        index, problem = fault
        _refuse(Annotation, annotations[index].id, start + index, f"`segmentation` {problem}")


def _as_dict(annotation: Annotation, number: int) -> Dict[str, Any]:
    mask = annotation.segmentation
    return {
        "id": number,
        "image_id": annotation.image_id,
        "category_id": annotation.category_id,
        "segmentation": mask if isinstance(mask, list) else {"size": list(mask.size), "counts": mask.counts},
        "iscrowd": int(annotation.iscrowd or 0),
        "bbox": list(annotation.bbox) if annotation.bbox else None,
        "area": annotation.area or None,
    }
