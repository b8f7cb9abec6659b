"""A zip file of which no byte belongs to nothing: the only kind that every reader reads alike.

The zip library of Python is made to open what it can; this reader refuses what two readers could take for two files.
Each entry of the directory is compared with the header before its member, field by field, members follow one another
from the first byte to the directory, and packed data end where their member ends. Names of fields are those of
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Dict, Iterator, List, Tuple

from blendmask_edge.bundle import limits
from blendmask_edge.bundle.manifest import is_member_name
from blendmask_edge.errors import BundleError

STORED, DEFLATED = 0, 8
_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_HEADER = struct.Struct("<4s5H3L2H")
_ZIP64_LOCATOR_BYTES = 20
_CHUNK = 2**16
_ENCRYPTED = 0x1
_HARMLESS_FLAGS = 0x6 | 0x800
"""How hard a packer tried, and that names are UTF-8."""
_NEWEST_VERSION = 20
"""Of the program that is needed to unpack: deflate; more is zip64, encryption or another method."""
_MSDOS_FOLDER = 0x10


@dataclass(frozen=True)
class Member:
    """One entry of the directory; the fields that the header before the member repeats are `repeated`."""

    name: str
    offset: int
    repeated: Tuple[int, ...]
    attributes: int
    stray_bytes: int
    """Bytes of extra fields and comment, and the number of the disk."""

    @property
    def version(self) -> int:
        """Version of the program that is needed to unpack."""
        return self.repeated[0]

    @property
    def flags(self) -> int:
        """General purpose bits."""
        return self.repeated[1]

    @property
    def method(self) -> int:
        """0 is stored, 8 deflated."""
        return self.repeated[2]

    @property
    def crc(self) -> int:
        """CRC-32 of the unpacked bytes."""
        return self.repeated[5]

    @property
    def packed_size(self) -> int:
        """Bytes in the file."""
        return self.repeated[6]

    @property
    def size(self) -> int:
        """Bytes when unpacked."""
        return self.repeated[7]

    @property
    def data_offset(self) -> int:
        """Where the packed bytes begin."""
        return self.offset + _HEADER.size + len(self.name)


class Archive:
    """The members of a zip file, checked against the rules and limits of a bundle before anything is unpacked."""

    def __init__(self, stream: BinaryIO) -> None:
        """Take a file that can be sought, and read its directory and headers.

        Raises:
            BundleError: it is not a zip, or breaks a rule; the message is the reason alone.
            OSError: it cannot be read.
        """
        self._stream = stream
        self.size = stream.seek(0, os.SEEK_END)
        directory, count = self._check_end()
        members = self._directory(directory, count)
        for member in members:
            _check_member(member)
        _check_together(members, directory)
        for member in members:
            self._check_header(member)
        self.members: Dict[str, Member] = {member.name: member for member in members}

    def member(self, name: str) -> Member:
        """Return a member.

        Raises:
            BundleError: there is none of this name.
        """
        if name not in self.members:
            raise BundleError(f"it has no {name}")
        return self.members[name]

    def read(self, name: str) -> bytes:
        """Return the unpacked bytes of a member.

        Raises:
            BundleError, OSError: as `chunks`.
        """
        data = io.BytesIO()  # which gives its bytes away without a copy
        for chunk in self.chunks(name):
            data.write(chunk)
        return data.getvalue()

    def chunks(self, name: str) -> Iterator[bytes]:
        """Go through the unpacked bytes of a member, as many as its directory entry states.

        Raises:
            BundleError: the packed bytes are damaged, or unpack to another size or checksum than is stated.
            OSError: the file cannot be read.
        """
        member = self.member(name)
        packed = self._packed(member)
        position, crc = 0, 0
        try:
            for chunk in packed if member.method == STORED else _inflated(packed, member.size):
                position, crc = position + len(chunk), zlib.crc32(chunk, crc)
                yield chunk
        except zlib.error as error:
            raise BundleError(f"{name} is damaged ({error})") from error
        if position != member.size or crc != member.crc:
            raise BundleError(f"{name} is damaged (it unpacks to another size or checksum than is stated)")

    def _packed(self, member: Member) -> Iterator[bytes]:
        self._stream.seek(member.data_offset)
        left = member.packed_size
        while left:
            chunk = self._stream.read(min(left, _CHUNK))
            if not chunk:
                raise BundleError(f"{member.name} is damaged (it ends too early)")
            left -= len(chunk)
            yield chunk

    def _at(self, offset: int, count: int) -> bytes:
        self._stream.seek(offset)
        data = self._stream.read(count)
        if len(data) != count:
            raise BundleError("it is cut off")
        return data

    def _check_end(self) -> Tuple[int, int]:
        """Check the end record; return where the directory begins and how many entries it is to have."""
        size = self.size
        record = self._at(size - _END.size, _END.size) if size >= _END.size else b""
        if not record.startswith(b"PK\5\6"):
            raise BundleError("it is not a zip file, is truncated, or has data after its end")
        _, disk, first_disk, here, count, length, offset, comment = _END.unpack(record)
        is_large = size > limits.MAX_FILE_BYTES or length > limits.MAX_DIRECTORY_BYTES or count > limits.MAX_MEMBERS
        if is_large or self._is_zip64():
            raise BundleError(
                f"it exceeds the limits of {limits.MAX_FILE_BYTES} bytes, {limits.MAX_DIRECTORY_BYTES} of directory, "
                f"holds more than {limits.MAX_MEMBERS} members, or has a zip64 record"
            )
        if disk or first_disk or here != count or comment or offset + length + _END.size != size:
            raise BundleError("its end record does not match the file, or there is data before or after the zip")
        return offset, count

    def _is_zip64(self) -> bool:
        """Whether there is a locator of the other end record, which readers take where they find it."""
        before = self.size - _END.size - _ZIP64_LOCATOR_BYTES
        return before >= 0 and self._at(before, 4) == b"PK\6\7"

    def _directory(self, offset: int, count: int) -> List[Member]:
        size = self.size - _END.size - offset
        data, position, members = self._at(offset, size), 0, []
        while position < size:
            if not data.startswith(b"PK\1\2", position) or position + _ENTRY.size > size:
                raise BundleError("its zip directory cannot be read, or bytes that belong to no entry stand behind it")
            member, length = _member(data, position)
            members.append(member)
            position += length
        if position != size or len(members) != count:
            raise BundleError(f"its directory lists {len(members)} members, but its end record {count}")
        return members

    def _check_header(self, member: Member) -> None:
        """Compare the header before a member with its entry: other readers go by the header."""
        header = self._at(member.offset, _HEADER.size + len(member.name))
        signature, *repeated, name_length, extra = _HEADER.unpack_from(header)
        if signature != b"PK\3\4" or extra or name_length != len(member.name):
            raise BundleError(f"the header before {member.name} is damaged or has extra fields")
        if tuple(repeated) != member.repeated or header[_HEADER.size :] != member.name.encode():
            raise BundleError(f"{member.name} is damaged (the header before it and the directory disagree)")


def _member(data: bytes, position: int) -> Tuple[Member, int]:
    """Return the entry that begins at `position`, and its length."""
    (_, _, *repeated, name_length, extra, comment, disk, _, attributes, offset) = _ENTRY.unpack_from(data, position)
    start = position + _ENTRY.size
    name = data[start : start + name_length].decode("utf-8", "backslashreplace")
    length = _ENTRY.size + name_length + extra + comment
    return Member(name, offset, tuple(repeated), attributes, extra + comment + disk), length


def _check_member(member: Member) -> None:
    if not is_member_name(member.name):
        raise BundleError(f"the name {member.name[:200]!r} is not allowed in a bundle")
    if member.stray_bytes:
        raise BundleError(f"the entry of {member.name} has extra fields, a comment or lies on another disk")
    if stat.S_IFMT(member.attributes >> 16) not in (0, stat.S_IFREG) or member.attributes & _MSDOS_FOLDER:
        raise BundleError(f"{member.name} is a folder, a link or another special file")
    if member.flags & _ENCRYPTED:
        raise BundleError(f"{member.name} is encrypted")
    if member.method not in (STORED, DEFLATED) or (member.method == STORED and member.size != member.packed_size):
        raise BundleError(f"{member.name} is packed by a method other than stored or deflated")
    if member.flags & ~_HARMLESS_FLAGS or member.version > _NEWEST_VERSION:
        raise BundleError(f"{member.name} has flags {member.flags:#x} or asks for version {member.version} of zip")
    if member.size > max(limits.RATIO_APPLIES_FROM, limits.MAX_RATIO * member.packed_size):
        raise BundleError(
            f"{member.name} unpacks to {member.size} bytes, at most {limits.MAX_RATIO} times its packed size is allowed"
        )


def _check_together(members: List[Member], directory: int) -> None:
    """See that members have different names and follow one another from the first byte to the directory."""
    if len({member.name.lower() for member in members}) != len(members):
        raise BundleError("it holds a name twice")
    if sum(member.size for member in members) > limits.MAX_UNPACKED_BYTES:
        raise BundleError(f"it unpacks to more than {limits.MAX_UNPACKED_BYTES} bytes")
    end = 0
    for member in sorted(members, key=lambda one: one.offset):
        if member.offset < end:
            raise BundleError("its members lie over one another")
        if member.offset > end:
            raise BundleError(
                f"bytes stand before or after the zip's member at {member.offset} that belong to no member"
            )
        end = member.data_offset + member.packed_size
    if end > directory:
        raise BundleError("its members lie over one another")
    if end < directory:
        raise BundleError("bytes that belong to no member stand before its directory")


def _inflated(packed: Iterator[bytes], most: int) -> Iterator[bytes]:
    """Inflate what ends with its input, and no more than `most` bytes and one, in chunks.

    Raises:
        zlib.error: the input is damaged, ends too early, or goes on behind its end.
    """
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), most + 1
    for part in packed:
        if inflater.eof:
            raise zlib.error("bytes stand behind its end")
        chunk = part
        while chunk and left:
            chunk = inflater.decompress(part, min(left, _CHUNK))
            part, left = inflater.unconsumed_tail, left - len(chunk)
            yield chunk
    if left and (not inflater.eof or inflater.unused_data):  # without any left it is longer than stated
        raise zlib.error("its end is missing, or bytes stand behind it")
