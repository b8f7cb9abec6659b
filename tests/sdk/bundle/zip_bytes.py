"""Zip files byte by byte, with any field of any record set to anything."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping

HEADER_FIELDS = ("version", "flags", "method", "time", "date", "crc", "packed_size", "size")
"""Fields that an entry of the directory and the header before the member share, in their order."""


@dataclass(frozen=True)
class Part:
    """A member, with fields that its `header` or its `entry` has instead of the true ones, and bytes around it."""

    name: bytes
    content: bytes
    method: int = 8
    packed: bytes = b""
    """The packed bytes, where they are not what packing gives."""
    header: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    before: bytes = b""
    after: bytes = b""

    def bytes_of_member(self) -> bytes:
        """Return the packed bytes."""
        if self.packed or self.method == 0:
            return self.packed or self.content
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        return packer.compress(self.content) + packer.flush()

    def fields(self) -> Dict[str, int]:
        """Return the true values of `HEADER_FIELDS`."""
        packed = len(self.bytes_of_member())
        crc = zlib.crc32(self.content)
        values = (20, 0, self.method, 0, 33, crc, packed, len(self.content))
        return dict(zip(HEADER_FIELDS, values))


def zip_of(parts: List[Part], end: Mapping[str, int] = {}, before_end: bytes = b"", comment: bytes = b"") -> bytes:
    """Return a zip file of `parts`; `end` holds fields of the end record that are other than the true ones."""
    data, directory = b"", b""
    for part in parts:
        data += part.before
        offset = len(data)
        data += _header(part) + part.bytes_of_member() + part.after
        directory += _entry(part, offset)
    values = {
        "disk": 0, "first_disk": 0, "here": len(parts), "count": len(parts), "length": len(directory),
        "offset": len(data), "comment": len(comment), **end,
    }  # fmt: skip
    return data + directory + before_end + struct.pack("<4s4H2LH", b"PK\5\6", *values.values()) + comment


def _header(part: Part) -> bytes:
    given = {"signature": b"PK\3\4", "name": part.name, "extra": b"", **part.fields(), **part.header}
    shared = [given[name] for name in HEADER_FIELDS]
    lengths = (len(given["name"]), len(given["extra"]))
    return struct.pack("<4s5H3L2H", given["signature"], *shared, *lengths) + given["name"] + given["extra"]


def _entry(part: Part, offset: int) -> bytes:
    given = {
        "signature": b"PK\1\2", "made_by": 3 << 8 | 20, "name": part.name, "extra": b"", "comment": b"", "disk": 0,
        "internal": 0, "attributes": 0o100644 << 16, "offset": offset, **part.fields(), **part.entry,
    }  # fmt: skip
    shared = [given[name] for name in HEADER_FIELDS]
    texts = [given[name] for name in ("name", "extra", "comment")]
    return struct.pack(
        "<4s6H3L5H2L", given["signature"], given["made_by"], *shared, *map(len, texts), given["disk"],
        given["internal"], given["attributes"], given["offset"],
    ) + b"".join(texts)  # fmt: skip


def changed(parts: List[Part], name: bytes, **changes: Any) -> List[Part]:
    """Return the parts with one of them changed."""
    return [replace(part, **changes) if part.name == name else part for part in parts]
