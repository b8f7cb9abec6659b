"""Changes to files: a few places of any bytes, and of the members of a zip, so that fuzzing gets behind checksums."""

from __future__ import annotations

import io
import random
import zipfile
from typing import Dict

_PIECES = (
    b"\0",
    b"\xff",
    b"PK\1\2",
    b"PK\3\4",
    b"PK\5\6",
    b"PK\6\7",
    b"\xff\xff\xff\x7f",
    b'{"',
    b"[",
    b",",
    b":",
    b"\\",
)


def scramble(data: bytes, most: int, draw: random.Random) -> bytes:
    """Overwrite, insert, repeat or cut a few places of `data`; return at most `most` bytes."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place, length = draw.randrange(len(changed) + 1), draw.choice((0, 1, 1, 2, 4, 40))
        piece = bytes(changed[place : place + length])
        put = draw.choice((b"", draw.randbytes(length), draw.randbytes(1), piece * 2, draw.choice(_PIECES)))
        changed[place : place + length] = put
    return bytes(changed[:most])


def scramble_zip(data: bytes, most: int, seed: int) -> bytes:
    """Change a member of a zip, or, one time in four and where it is not a zip, the bytes themselves."""
    draw = random.Random(seed)
    members = _members(data)
    if not members or draw.random() < 0.25:
        return scramble(data, most, draw)
    name = draw.choice(sorted(members))
    members[name] = scramble(members[name], most // 2, draw)
    return _zipped(members, draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))[:most]


def _members(data: bytes) -> Dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as opened:
            return {info.filename: opened.open(info).read(info.file_size) for info in opened.infolist()[:8]}
    except Exception:  # of a damaged zip, anything
        return {}


def _zipped(members: Dict[str, bytes], method: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()
