"""Read the first directory of a TIFF structure, which EXIF blocks and TIFF files share."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

UPRIGHT = 1
ORIENTATION_TAG = 274
_TAGS = {
    256: "width",
    257: "height",
    258: "bits",
    259: "compression",
    ORIENTATION_TAG: "orientation",
    277: "channels",
    322: "tile_width",
    323: "tile_height",
    339: "sample_format",
}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_NUMBERS = {1: "B", 3: "H", 4: "L"}


@dataclass(frozen=True)
class Tiff:
    """The tags of `_TAGS` that the first directory has, and which bytes state the orientation."""

    tags: Dict[str, Tuple[int, ...]]
    orientation_bytes: Optional[slice] = None

    def first(self, name: str, default: int) -> int:
        """Return the first number of a tag, or `default` where the tag is missing."""
        return self.tags.get(name, (default,))[0]


def read_tiff(data: bytes) -> Tiff:
    """Read the first directory.

    Args:
        data: from "II*\\0" or "MM\\0*" on.

    Raises:
        ValueError: there is none, or an entry leaves the data.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        raise ValueError("it has no TIFF header")
    (start,) = struct.unpack_from(order + "L", data, 4)
    if start + 2 > len(data):
        raise ValueError("its TIFF directory lies behind the end")
    (count,) = struct.unpack_from(order + "H", data, start)
    if start + 2 + 12 * count > len(data):
        raise ValueError("its TIFF directory is cut off")
    tags: Dict[str, Tuple[int, ...]] = {}
    orientation_bytes = None
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        tag, values, place = _read_entry(data, order, entry)
        if tag in _TAGS and values and _TAGS[tag] not in tags:
            tags[_TAGS[tag]] = values
            orientation_bytes = place if tag == ORIENTATION_TAG else orientation_bytes
    return Tiff(tags, orientation_bytes)


def orientation_of(tiff: Tiff) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for what is missing or out of range."""
    value = tiff.first("orientation", UPRIGHT)
    return value if 1 <= value <= 8 else UPRIGHT


def _read_entry(data: bytes, order: str, entry: int) -> Tuple[int, Tuple[int, ...], slice]:
    """Return tag, its first numbers (none for other types) and the bytes of all of them."""
    tag, kind, count = struct.unpack_from(order + "HHL", data, entry)
    size = _TYPE_SIZES.get(kind, 1) * count
    place = entry + 8
    if size > 4:
        (place,) = struct.unpack_from(order + "L", data, entry + 8)
    if place + size > len(data):
        raise ValueError(f"entry {tag} of its TIFF directory lies behind the end")
    where = slice(place, place + size)
    if kind not in _NUMBERS or not count:
        return tag, (), where
    return tag, struct.unpack_from(order + _NUMBERS[kind] * min(count, 4), data, place), where
