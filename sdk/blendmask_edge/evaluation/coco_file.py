"""Read a file of COCO instances and check every field that anything relies on, once and completely.

pycocotools takes what it is given: annotation 0 counts as unmatched, lists of four numbers are boxes, and coordinates
that are not finite end the process in native code. So nothing reaches it that was not checked here.
"""

from __future__ import annotations

import contextlib
import gc
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Set, Tuple, Type

import msgspec
from pycocotools import mask as rle_codec

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.coco_boxes import complete, needs_mask
from blendmask_edge.evaluation.coco_checks import annotation_fault, check_categories, check_images, check_masks
from blendmask_edge.evaluation.coco_entries import (
    LONGEST_SHOWN,
    Annotation,
    Category,
    Entry,
    Fault,
    Image,
    as_dict,
    entry_of,
    refuse,
    shortened,
)
from blendmask_edge.evaluation.coco_masks import RunLengths, compressed
from blendmask_edge.evaluation.coco_parts import COLLECTIONS as _KEYS
from blendmask_edge.evaluation.coco_parts import Parts, holds_a_key_twice, split, why_not_split
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

MAX_FILE_BYTES = 2**33
_CHUNK, _CHUNK_BYTES = 20_000, 2**20
"""Annotations that are decoded at once, and bytes of their text; numbers take up to 60 times their text."""
_LONGEST_ANNOTATION = 2**22
"""Bytes of the text of one annotation."""
_MOST_VALUES = 2**19
"""Numbers in one annotation, as many as there are commas; each takes some 60 bytes while it is checked."""
_MOST_PARSED = 2**25
"""Bytes of a file that `json` may take apart, in which a value takes up to 40 times its text."""
_MOST_NUMBERS = 4096
"""Numbers of a mask from which on it is kept compressed."""

Document = Dict[str, List[Dict[str, Any]]]
_DECODER = msgspec.json.Decoder(Annotation)


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
        check_images(images)
        check_categories(categories)
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
    except Fault as fault:
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
        return read_bounded(path, MAX_FILE_BYTES)
    except (OSError, ValueError) as error:  # ValueError is of a path that holds a NUL
        raise Fault(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _parse(data: bytes) -> Dict[str, Any]:
    """Return the JSON object of a file that holds the three lists, of one that `split` could not take apart."""
    if len(data) > _MOST_PARSED:
        raise Fault(f"{why_not_split(data)}, expected COCO instances in UTF-8, each key of an object once")
    content = _loads(data)
    missing = [key for key in _KEYS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise Fault(f"it lacks the list{'s' * (len(missing) > 1)} {', '.join(missing)}, expected COCO instances")
    empty = [key for key in _KEYS if not content[key]]
    if empty:
        raise Fault(f"it holds no {', no '.join(empty)}, expected at least one")
    return dict(content)


def _loads(data: bytes) -> Any:
    """Return what JSON text holds.

    Raises:
        Fault: it is none, or an object of it holds a key twice.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise Fault(f"it is not UTF-8 text (byte {error.start}), expected a JSON file") from error
    except RecursionError as error:
        raise Fault("it nests lists or objects too deeply, expected COCO instances") from error
    except Fault:
        raise
    except ValueError as error:
        reason = str(error) if isinstance(error, json.JSONDecodeError) else "a number has thousands of digits"
        raise Fault(f"it is not JSON ({reason[:LONGEST_SHOWN]})") from error


def _object(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    """Return a JSON object, no key of which may stand there twice: readers differ on which of two they take."""
    document = dict(pairs)
    if len(document) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Fault(
            f"the object with id {shortened(document.get('id'))} holds the key {shortened(twice)} twice, expected once"
        )
    return document


def _entries(content: Dict[str, Any], key: str, kind: Type[Entry]) -> List[Entry]:
    return [entry_of(entry, index, kind) for index, entry in enumerate(content[key])]


def _annotations(
    path: PathLike, data: bytes, parts: Optional[Parts], images: Dict[int, Image], categories: Set[int]
) -> Iterator[Dict[str, Any]]:
    """Yield the annotations, renumbered and complete."""
    done, known = 0, _Known(images, categories)
    with _naming(path), collection_paused():
        entries = _parse(data)["annotations"] if parts is None else parts.annotations
    for chunk in _chunks(entries):
        with _naming(path):
            checked = known.checked_texts(chunk, done) if parts is not None else known.checked_entries(chunk, done)
        yield from checked
        done += len(checked)


def _chunks(entries: List[Any]) -> Iterator[List[Any]]:
    """Yield entries in chunks of bounded text, which are let go."""
    start, size = 0, 0
    for end in range(1, len(entries) + 1):
        size += _text_bytes(entries[end - 1])
        if end - start == _CHUNK or size >= _CHUNK_BYTES or end == len(entries):
            chunk = entries[start:end]
            entries[start:end] = [None] * len(chunk)
            yield chunk
            start, size = end, 0


def _text_bytes(entry: Any) -> int:
    return memoryview(entry).nbytes if isinstance(entry, msgspec.Raw) else 0


def _length_fault(text: msgspec.Raw) -> Optional[str]:
    """Say why an annotation is too long to be decoded; None if it is not."""
    size = _text_bytes(text)
    if size > _LONGEST_ANNOTATION:
        return f"takes {size} bytes, expected at most {_LONGEST_ANNOTATION}"
    values = bytes(text).count(b",") if size > _MOST_VALUES else 0
    return f"holds {values} values, expected at most {_MOST_VALUES}" if values > _MOST_VALUES else None


def _identity(text: msgspec.Raw) -> Any:
    """Return the id of an annotation without the rest of it; None if it has none."""
    try:
        return msgspec.json.decode(text, type=_Identity).id
    except msgspec.MsgspecError:
        return None


class _Identity(msgspec.Struct):
    id: Any = None


def _decoded(raw: msgspec.Raw) -> Annotation:
    """Return an annotation as it stands in the file.

    Raises:
        MsgspecError, Fault: it is none, or holds a key twice.
    """
    annotation = _DECODER.decode(raw)
    optional = (annotation.id, annotation.iscrowd, annotation.bbox, annotation.area)
    keys = 3 + sum(value is not msgspec.UNSET for value in optional)
    mask = annotation.segmentation
    texts = 0
    if isinstance(mask, RunLengths):
        keys, texts = keys + 2, int(isinstance(mask.counts, str))
    if holds_a_key_twice(raw, keys, texts):
        raise Fault
    return annotation


@dataclass(frozen=True)
class _Known:
    """The ids that annotations may refer to."""

    images: Dict[int, Image]
    categories: Set[int]

    def checked_texts(self, texts: List[msgspec.Raw], start: int) -> List[Dict[str, Any]]:
        """Check annotations as they stand in the file, from an index of it on, and return them complete.

        The quick reader is left at the first thing it does not like; the thorough one then says what is wrong, if
        anything.
        """
        for index, text in enumerate(texts, start):
            problem = _length_fault(text)
            if problem:
                refuse(Annotation, _identity(text), index, f"{problem}: write its mask as compressed RLE")
        try:
            return self.checked([_decoded(text) for text in texts], start)
        except (Fault, msgspec.MsgspecError, RecursionError, OverflowError, UnicodeError):
            return self.checked_entries([_loads(bytes(text)) for text in texts], start)

    def checked_entries(self, entries: List[Any], start: int) -> List[Dict[str, Any]]:
        """Check annotations that JSON holds, from an index of the file on, and return them complete."""
        return self.checked([entry_of(entry, index, Annotation) for index, entry in enumerate(entries, start)], start)

    def checked(self, annotations: List[Annotation], start: int) -> List[Dict[str, Any]]:
        """Check a chunk of annotations that begins at an index of the file, and return them complete."""
        for index, annotation in enumerate(annotations, start):
            problem = annotation_fault(annotation, self.images, self.categories)
            if problem:
                refuse(Annotation, annotation.id, index, problem)
        check_masks(annotations, start, self.images)
        decoded = [as_dict(annotation, number) for number, annotation in enumerate(annotations, start + 1)]
        for index, entry in enumerate(decoded, start):
            image = self.images[entry["image_id"]]
            _compress(entry, image)
            problem = _complete(entry, image)
            if problem:
                refuse(Annotation, annotations[index - start].id, index, problem)
        return decoded


def _compress(entry: Dict[str, Any], image: Image) -> None:
    """Keep a mask of many numbers as compressed run lengths, which take a hundredth of the memory."""
    mask = entry["segmentation"]
    lists = mask if isinstance(mask, list) else [mask["counts"]]
    if isinstance(lists[0], list) and sum(map(len, lists)) > _MOST_NUMBERS:
        counts = compressed(mask, image.height, image.width)["counts"]
        entry["segmentation"] = {"size": [image.height, image.width], "counts": counts.decode("ascii")}


def _complete(entry: Dict[str, Any], image: Image) -> Optional[str]:
    """Take what an annotation lacks from its mask; say what is wrong with a box of another form."""
    if not needs_mask(entry):
        return None
    mask = compressed(entry["segmentation"], image.height, image.width)
    box, area = rle_codec.toBbox(mask).tolist(), float(rle_codec.area(mask))
    return complete(entry, box, area, image.width, image.height)
