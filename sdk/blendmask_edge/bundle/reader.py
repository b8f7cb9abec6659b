"""Read a bundle in place: limits before allocation, hashes before use, nothing extracted."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import List

from blendmask_edge.bundle.atomic import PathLike
from blendmask_edge.bundle.manifest import MANIFEST_NAME, GraphEntry, Manifest, decode_manifest, is_member_name
from blendmask_edge.errors import BundleError

MAX_FILE_BYTES = 2**31 - 1
MAX_MEMBERS = 32
MAX_DIRECTORY_BYTES = 64 * 1024
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
MAX_UNPACKED_BYTES = 2**32
MAX_RATIO = 200
_RATIO_APPLIES_FROM = 64 * 1024 * 1024

_END_RECORD = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR_BYTES = 20
_ZIP_FAILURES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle: where it lies and its manifest. The file is read again, and checked, for each graph."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: PathLike) -> Bundle:
        """Check the zip's shape and read its manifest.

        Raises:
            BundleError: missing file, no zip, limits passed, names that are doubled or not plain, unsound manifest,
                or a graph that the manifest names and the zip lacks.
        """
        location = Path(path)
        with _Archive(location) as archive:
            manifest = _located(location, archive.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))
            for entry in manifest.graphs.values():
                if archive.info(entry.file).file_size != entry.size:
                    raise _refusal(location, f"{entry.file} has another size than the manifest states")
        return cls(location, manifest)

    def graph(self, flavour: str) -> bytes:
        """Return the ONNX file of `flavour` ("cpu", "tensorrt", "float"), checked against its hash.

        Raises:
            BundleError: the bundle has no such flavour, or its bytes are not those the manifest states.
        """
        entry = self.entry(flavour)
        with _Archive(self.path) as archive:
            data = archive.read(entry.file, entry.size)
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _refusal(self.path, f"{entry.file} does not have the hash that the manifest states")
        return data

    def entry(self, flavour: str) -> GraphEntry:
        """Return what the manifest says of the graph of `flavour`.

        Raises:
            BundleError: the bundle has no such flavour.
        """
        if flavour not in self.manifest.graphs:
            held = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.path} has no {flavour!r} graph, only: {held}. Ask for one of these.")
        return self.manifest.graphs[flavour]


class _Archive:
    """A zip whose directory has been checked against the limits; turns the zip library's errors into ours."""

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_end_record(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_FAILURES as error:
            raise _refusal(path, f"its zip directory cannot be read ({error})") from error
        try:
            _check_members(path, self._zip.infolist())
        except BundleError:
            self._zip.close()
            raise

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(name)
        except KeyError:
            raise _refusal(self.path, f"it holds no {name}") from None

    def read(self, name: str, limit: int) -> bytes:
        info = self.info(name)
        if info.file_size > limit:
            raise _refusal(self.path, f"{name} unpacks to {info.file_size} bytes, at most {limit} are allowed")
        try:
            return self._zip.read(info)
        except _ZIP_FAILURES as error:
            raise _refusal(self.path, f"{name} is damaged ({error})") from error


def _located(path: Path, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _check_end_record(path: Path) -> None:
    """Bound the number of members and the directory's size before the zip library allocates for them."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            stream.seek(max(0, size - 65536 - _END_RECORD.size))
            tail = stream.read(65536 + _END_RECORD.size)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror}. Give the path of a .bmz file.") from error
    start = tail.rfind(b"PK\5\6")
    if start < 0 or len(tail) - start < _END_RECORD.size:
        raise _refusal(path, "it is no zip file, or its end is missing")
    record = _END_RECORD.unpack_from(tail, start)
    members, directory = record[4], record[5]
    is_zip64 = tail[max(0, start - _ZIP64_LOCATOR_BYTES) : start].startswith(b"PK\6\7")
    if size > MAX_FILE_BYTES or members > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES or is_zip64:
        raise _refusal(path, f"it passes the limits of {MAX_FILE_BYTES} bytes and {MAX_MEMBERS} members")


def _check_members(path: Path, members: List[zipfile.ZipInfo]) -> None:
    names = [info.orig_filename for info in members]
    for name in names:
        if not is_member_name(name):
            raise _refusal(path, f"the name {name!r} is not allowed in a bundle")
    if len({name.lower() for name in names}) != len(names) or len(names) > MAX_MEMBERS:
        raise _refusal(path, f"it holds a name twice or more than {MAX_MEMBERS} members")
    for info in members:
        _check_member(path, info)
    if sum(info.file_size for info in members) > MAX_UNPACKED_BYTES:
        raise _refusal(path, f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")


def _check_member(path: Path, info: zipfile.ZipInfo) -> None:
    if info.flag_bits & 0x1:
        raise _refusal(path, f"{info.filename} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(path, f"{info.filename} is packed by a method other than stored or deflated")
    if info.file_size > _RATIO_APPLIES_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise _refusal(path, f"{info.filename} unpacks to more than {MAX_RATIO} times its packed size")


def _refusal(path: Path, reason: str) -> BundleError:
    return BundleError(f"{path} is not a sound bundle: {reason}. Build it again with `blendmask quantize`.")
