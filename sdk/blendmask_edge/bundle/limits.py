"""What a bundle may be at most: the reader refuses what passes it before it allocates, the writer before it writes."""

from __future__ import annotations

import stat
import zipfile
from typing import Iterable, List, Optional

from blendmask_edge.bundle.manifest import is_member_name

MAX_FILE_BYTES = 2**31 - 1
MAX_MEMBERS = 32
MAX_DIRECTORY_BYTES = 64 * 1024
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_UNPACKED_BYTES = 2**32
MAX_RATIO = 200
RATIO_APPLIES_FROM = 64 * 1024 * 1024

_LOCAL_HEADER_BYTES = 30
_ENCRYPTED = 0x1
_MSDOS_FOLDER = 0x10


def members_fault(members: List[zipfile.ZipInfo], directory_offset: int) -> Optional[str]:
    """Say what is wrong with the members of a zip whose directory begins at `directory_offset`; None if nothing is."""
    names = [info.orig_filename for info in members]
    for name in names:
        if not is_member_name(name):
            return f"the name {name!r} is not allowed in a bundle"
    if len({name.lower() for name in names}) != len(names) or len(names) > MAX_MEMBERS:
        return f"it holds a name twice or more than {MAX_MEMBERS} members"
    if sum(info.file_size for info in members) > MAX_UNPACKED_BYTES:
        return f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes"
    misplaced = _placement_fault(members, directory_offset)
    if misplaced is not None:
        return misplaced
    return next(filter(None, map(member_fault, members)), None)


def member_fault(info: zipfile.ZipInfo) -> Optional[str]:
    """Say what is wrong with one member; None if nothing is."""
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.external_attr & _MSDOS_FOLDER:
        return f"{info.filename} is a folder, a link or another special file"
    if info.flag_bits & _ENCRYPTED:
        return f"{info.filename} is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"{info.filename} is packed by a method other than stored or deflated"
    if info.file_size > RATIO_APPLIES_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"{info.filename} unpacks to more than {MAX_RATIO} times its packed size"
    return None


def _placement_fault(members: Iterable[zipfile.ZipInfo], directory_offset: int) -> Optional[str]:
    """Say where members do not follow one another from the first byte to the directory; None if they do.

    What lies between them, or an extra field, is what another reader may take for another file.
    """
    end = 0
    for info in sorted(members, key=lambda one: one.header_offset):
        if info.header_offset < end:
            return "its members lie over one another"
        if info.header_offset > end:
            return f"bytes stand before or after the zip's member at {info.header_offset} that belong to no member"
        end = info.header_offset + _LOCAL_HEADER_BYTES + len(info.orig_filename) + info.compress_size
    if end > directory_offset:
        return "its members lie over one another"
    return None if end == directory_offset else "bytes that belong to no member stand before its directory"
