"""Take a large COCO file apart without decoding all of it at once."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

import msgspec

COLLECTIONS = ("images", "annotations", "categories")
_BLOCK = 2**24
_QUOTE = b'"'
_LONGEST_REASON = 120


@dataclass(frozen=True)
class Parts:
    """A COCO file in parts.

    Attributes:
        content: images and categories, decoded.
        annotations: each as it stands in the file.
    """

    content: Dict[str, List[Any]]
    annotations: List[Any]


def split(data: bytes) -> Optional[Parts]:
    """Take a COCO file apart.

    Args:
        data: of the file.

    Returns:
        Its parts; None where it is not plainly a COCO file of UTF-8 text, which `json` then says more of.
    """
    text = data[len(codecs.BOM_UTF8) :] if data.startswith(codecs.BOM_UTF8) else data
    if not _is_utf8(text):
        return None
    try:
        raw = msgspec.json.decode(text, type=Dict[str, msgspec.Raw])
        annotations = msgspec.json.decode(raw["annotations"], type=List[msgspec.Raw])
        content = {key: _decode(bytes(raw[key])) for key in COLLECTIONS if key != "annotations"}
    except (msgspec.MsgspecError, KeyError, ValueError, RecursionError):
        return None
    if not annotations or not all(content.values()) or _holds_a_key_twice(text, raw):
        return None
    return Parts(content, annotations)


def why_not_split(data: bytes) -> str:
    """Say what of a file `split` does not take, in half a sentence and without decoding what it holds."""
    try:
        raw = msgspec.json.decode(data, type=Dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"it is not plain JSON ({str(error)[:_LONGEST_REASON]})"
    missing = [key for key in COLLECTIONS if bytes(raw.get(key, b"")).strip()[:1] != b"["]
    return f"it lacks the list {missing[0]}" if missing else "it holds an empty list, or a key twice"


def holds_a_key_twice(entry: msgspec.Raw, keys: int, texts: int) -> bool:
    """Whether a JSON object holds a key twice, at any depth.

    Args:
        entry: the object as it stands in the file.
        keys: how many different ones were found in it.
        texts: how many values of it are text without quotation marks.
    """
    text = bytes(entry)
    if text.count(_QUOTE) == 2 * (keys + texts):
        return False
    try:
        json.loads(text, object_pairs_hook=_object)
    except ValueError:
        return True
    return False


def _holds_a_key_twice(text: bytes, raw: Dict[str, Any]) -> bool:
    """Whether the outermost object does: the quotation marks of one value are then nowhere else."""
    names = sum(json.dumps(key).count('"') for key in raw)
    return text.count(_QUOTE) != names + sum(bytes(part).count(_QUOTE) for part in raw.values())


def _decode(part: bytes) -> List[Any]:
    """Return a list of objects, none of which holds a key twice.

    Raises:
        ValueError: it is none.
    """
    parsed = json.loads(part, object_pairs_hook=_object)
    if not isinstance(parsed, list):
        raise ValueError
    return parsed


def _object(pairs: List[Any]) -> Dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError
    return parsed


def _is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8, without the memory for their text."""
    if data.isascii():
        return True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _BLOCK):
            decoder.decode(data[start : start + _BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
