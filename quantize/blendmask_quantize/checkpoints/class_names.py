"""Names and category ids of the classes, from a list, a text file or COCO annotations."""

from __future__ import annotations

import itertools
import os
import reprlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from blendmask_edge.errors import AnnotationError
from blendmask_edge.evaluation.coco_file import MAX_FILE_BYTES, read_document
from blendmask_edge.labels import Labels
from blendmask_edge.storage.bounded import read_bounded
from blendmask_quantize.model.labels import default_labels

ClassNames = Labels | Sequence[str] | str | os.PathLike[str]
"""A source of class names: labels, names in the order of the network's classes, or a file of them."""

_SUFFIXES = (".json", ".txt", ".names")
_BOM = b"\xef\xbb\xbf"
_LONGEST_REASON = 200
_MOST_CHARACTERS = 200
_MOST_ID = 2**63 - 1


def read_classes(source: ClassNames) -> Labels:
    """The labels that something names.

    Args:
        source: `Labels`; names in the order of the network's classes, as a sequence or a text with commas; or the path
            of COCO annotations, of a JSON list of names, or of a text file with one name a line. Names without ids are
            numbered from 1; categories are taken in the order of their ids, as detectron2 does.

    Raises:
        AnnotationError: the file cannot be read, or names no class or one twice.
    """
    if isinstance(source, Labels):
        return source
    if isinstance(source, os.PathLike) or (isinstance(source, str) and _is_path(source)):
        return _checked(_from_file(Path(source)), str(source))
    names = source.split(",") if isinstance(source, str) else source
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise AnnotationError(
            f"classes is {reprlib.repr(source)}, expected names, or the path of a file of them: give a list of texts"
        )
    return _checked(_numbered(names), "the list of classes")


def _is_path(text: str) -> bool:
    if "," in text:
        return False
    is_elsewhere = os.sep in text and os.path.exists(text)  # a folder or device, which is refused, and no class
    return Path(text).suffix.lower() in _SUFFIXES or os.path.isfile(text) or is_elsewhere


def coco_labels(categories: Sequence[dict[str, Any]]) -> Labels:
    """Contiguous classes of COCO categories: the rank of the category id.

    Raises:
        AnnotationError: two categories have the same id.
    """
    ordered = sorted(categories, key=lambda category: category["id"])
    for one, other in itertools.pairwise(ordered):
        if one["id"] == other["id"]:
            raise AnnotationError(f"the category id {one['id']} is used twice: give each category an id of its own")
    return Labels(tuple(c["name"] for c in ordered), tuple(c["id"] for c in ordered))


def annotated_labels(path: Path, count: int) -> Labels:
    """The labels that annotations give to a network of `count` classes which has no names of its own.

    These are all categories of the file, or those that have annotations, whichever are as many as the classes; and
    COCO's own where the annotations show nothing else.

    Args:
        path: COCO instances JSON.
        count: number of classes of the network.

    Raises:
        AnnotationError: the file cannot be read, or its categories are not as many.
    """
    categories, used = _categories(path)
    named = coco_labels(categories)
    shown = coco_labels([category for category in categories if category["id"] in used])
    for labels in (named, shown):
        if len(labels.names) == count:
            return _checked(labels, str(path))
    usual = default_labels(count)
    if set(zip(shown.category_ids, shown.names, strict=True)) <= set(zip(usual.category_ids, usual.names, strict=True)):
        return usual
    raise AnnotationError(
        f"{path} has {len(categories)} categories, {len(used)} of them with annotations, and the network has {count} "
        "classes, whose names its checkpoint does not state: give --classes with the annotations that it was trained "
        "on, or a text file with one name a line"
    )


class _Category(msgspec.Struct):
    id: Annotated[int, msgspec.Meta(ge=-_MOST_ID, le=_MOST_ID)]
    name: str


class _Instance(msgspec.Struct):
    category_id: int


class _Annotations(msgspec.Struct):
    categories: list[_Category]


class _AnnotatedCategories(_Annotations):
    annotations: list[_Instance]


def _categories(path: Path) -> tuple[list[dict[str, Any]], set[int]]:
    """The categories of annotations and the ids of those that are used, without reading the rest of the file."""
    try:
        parsed = msgspec.json.decode(read_bounded(path, MAX_FILE_BYTES).removeprefix(_BOM), type=_AnnotatedCategories)
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
        document = read_document(path)  # says what is wrong
        return document["categories"], {annotation["category_id"] for annotation in document["annotations"]}
    return _plain(parsed.categories), {annotation.category_id for annotation in parsed.annotations}


def _plain(categories: Sequence[_Category]) -> list[dict[str, Any]]:
    return [{"id": category.id, "name": category.name} for category in categories]


def _from_file(path: Path) -> Labels:
    try:
        content = read_bounded(path, MAX_FILE_BYTES).removeprefix(_BOM)
        if path.suffix.lower() != ".json":
            return _numbered(content.decode().splitlines())
        parsed = msgspec.json.decode(content, type=_Annotations | list[str])
    except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise AnnotationError(
            f"{path} cannot be read as names of classes ({_reason(error)}): give names with commas "
            "between them, a text file with one name a line, or COCO annotations (.json)"
        ) from error
    return _numbered(parsed) if isinstance(parsed, list) else coco_labels(_plain(parsed.categories))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)[:_LONGEST_REASON]


def _numbered(names: Sequence[str]) -> Labels:
    stripped = tuple(name.strip() for name in names if name.strip())
    return Labels(stripped, tuple(range(1, len(stripped) + 1)))


def _checked(labels: Labels, source: str) -> Labels:
    twice = sorted(name for name, count in Counter(labels.names).items() if count > 1)
    if not labels.names or twice:
        fault = f"names {reprlib.repr(twice[0])} twice" if twice else "names no class"
        raise AnnotationError(f"{source} {fault}: give each class of the network one name")
    long = next((name for name in labels.names if len(name) > _MOST_CHARACTERS), None)
    if long is not None:
        raise AnnotationError(
            f"{source} holds the name {reprlib.repr(long)} of {len(long)} characters, expected at most "
            f"{_MOST_CHARACTERS}: give one name a line, or names with commas between them"
        )
    return labels
