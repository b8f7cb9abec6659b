"""Names and category ids of the classes, from a list, a text file or COCO annotations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from blendmask_edge.errors import AnnotationError
from blendmask_edge.instances import Labels

ClassNames = Labels | Sequence[str] | str | Path
"""What names the classes: labels, names in the order of the network's classes, or a file of them."""

_SUFFIXES = (".json", ".txt", ".names")


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
    if isinstance(source, Path) or (isinstance(source, str) and _is_path(source)):
        return _checked(_from_file(Path(source)), str(source))
    names = source.split(",") if isinstance(source, str) else source
    return _checked(_numbered(names), "the list of classes")


def _is_path(text: str) -> bool:
    return "," not in text and (Path(text).suffix.lower() in _SUFFIXES or Path(text).is_file())


def coco_labels(categories: Sequence[dict[str, Any]]) -> Labels:
    """Contiguous classes of COCO categories: the rank of the category id."""
    ordered = sorted(categories, key=lambda category: category["id"])
    return Labels(tuple(c["name"] for c in ordered), tuple(c["id"] for c in ordered))


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotations(msgspec.Struct):
    categories: list[_Category]


def _from_file(path: Path) -> Labels:
    try:
        content = path.read_bytes()
        if path.suffix.lower() != ".json":
            return _numbered(content.decode().splitlines())
        found = msgspec.json.decode(content, type=_Annotations | list[str])
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
        raise AnnotationError(
            f"{path} cannot be read as names of classes ({error}): give names with commas between them, a text file "
            "with one name a line, or COCO annotations (.json)"
        ) from error
    if isinstance(found, list):
        return _numbered(found)
    return coco_labels([{"id": category.id, "name": category.name} for category in found.categories])


def _numbered(names: Sequence[str]) -> Labels:
    stripped = tuple(name.strip() for name in names if name.strip())
    return Labels(stripped, tuple(range(1, len(stripped) + 1)))


def _checked(labels: Labels, source: str) -> Labels:
    twice = sorted({name for name in labels.names if list(labels.names).count(name) > 1})
    if not labels.names or twice:
        found = f"names {twice[0]!r} twice" if twice else "names no class"
        raise AnnotationError(f"{source} {found}: give each class of the network one name")
    return labels
