"""Read a bundle in place: check limits before allocating memory and hashes before use; extract nothing."""

from __future__ import annotations

import hashlib
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.bundle.limits import (
    MAX_DIRECTORY_BYTES,
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_MEMBERS,
    members_fault,
)
from blendmask_edge.bundle.manifest import MANIFEST_NAME, GraphEntry, Manifest, decode_manifest
from blendmask_edge.errors import BundleError
from blendmask_edge.storage.atomic import PathLike

_END_RECORD = struct.Struct("<4s4H2LH")
_ZIP64_LOCATOR_BYTES = 20
_LONGEST_REASON = 400
_ZIP_FAILURES = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, RuntimeError, OSError)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Each graph is read and verified when it is requested.

    Attributes:
        path: path of the .bmz file.
        manifest: contents of `manifest.json`; docs/bundle.md lists its fields.

    Example:
        >>> from blendmask_edge import Bundle
        >>> bundle = Bundle.open("model.bmz")
        >>> bundle.manifest.classes, sorted(bundle.manifest.graphs)
        (['red', 'green', 'blue'], ['cpu'])
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: PathLike) -> Bundle:
        """Open a bundle: check the zip file and read its manifest.

        Args:
            path: path of the .bmz file.

        Raises:
            BundleError: the file is missing, is not a zip file, exceeds a limit, has invalid names or an invalid
                manifest, or lacks a graph that the manifest names.
        """
        location = Path(path)
        with _Archive(location) as archive:
            manifest = _located(location, archive.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))
            for entry in manifest.graphs.values():
                if archive.info(entry.file).file_size != entry.size:
                    raise _refusal(location, f"the size of {entry.file} differs from the manifest")
        return cls(location, manifest)

    def graph(self, variant: str) -> bytes:
        """Read a graph and verify its hash.

        Args:
            variant: "cpu", "tensorrt" or "float".

        Returns:
            The bytes of the ONNX file.

        Raises:
            BundleError: the bundle has no such variant, the hash differs from the manifest, or the bytes are not an
                ONNX file with all of its tensors.
        """
        entry = self.entry(variant)
        with _Archive(self.path) as archive:
            data = archive.read(entry.file, entry.size)
        if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise _refusal(self.path, f"the hash of {entry.file} differs from the manifest")
        try:
            check_graph(data)
        except BundleError as error:
            raise _refusal(self.path, f"{entry.file} is refused: {error}") from error
        return data

    def entry(self, variant: str) -> GraphEntry:
        """Return the manifest's entry of a graph.

        Args:
            variant: "cpu", "tensorrt" or "float".

        Raises:
            BundleError: the bundle has no such variant.
        """
        if variant not in self.manifest.graphs:
            known = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.path} has no {variant!r} graph. Choose one of: {known}.")
        return self.manifest.graphs[variant]


class _Archive:
    """A zip file whose directory was checked against the limits; converts errors of the zip library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        directory_offset, stated = _check_end_record(path)
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_FAILURES as error:
            raise _refusal(path, f"its zip directory cannot be read ({error})") from error
        members = self._zip.infolist()
        fault = members_fault(members, directory_offset)
        if fault is None and len(members) != stated:
            fault = f"its directory lists {len(members)} members, but its end record {stated}"
        if fault is not None:
            self._zip.close()
            raise _refusal(path, fault)

    def __enter__(self) -> _Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def info(self, name: str) -> zipfile.ZipInfo:
        try:
            return self._zip.getinfo(name)
        except KeyError:
            raise _refusal(self.path, f"it has no {name}") from None

    def read(self, name: str, limit: int) -> bytes:
        info = self.info(name)
        if info.file_size > limit:
            raise _refusal(self.path, f"{name} unpacks to {info.file_size} bytes, at most {limit} are allowed")
        try:
            with self._zip.open(info) as stream:
                return stream.read(info.file_size + 1)
        except _ZIP_FAILURES as error:
            raise _refusal(self.path, f"{name} is damaged ({error})") from error


def _located(path: Path, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _check_end_record(path: Path) -> Tuple[int, int]:
    """Check the number of members and the size of the directory before the zip library allocates memory for them.

    Returns:
        Offset of the directory, and the number of members that the end record states.
    """
    size, tail = _read_tail(path)
    record = tail[-_END_RECORD.size :]
    if len(record) < _END_RECORD.size or not record.startswith(b"PK\5\6"):
        raise _refusal(path, "it is not a zip file, is truncated, or has data after its end")
    _, disk, first_disk, here, members, directory, offset, comment = _END_RECORD.unpack(record)
    is_zip64 = tail[: -_END_RECORD.size].startswith(b"PK\6\7")
    if size > MAX_FILE_BYTES or members > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES or is_zip64:
        raise _refusal(path, f"it exceeds the limits of {MAX_FILE_BYTES} bytes and {MAX_MEMBERS} members")
    if disk or first_disk or here != members or comment or offset + directory + _END_RECORD.size != size:
        raise _refusal(path, "its end record does not match the file, or there is data before or after the zip")
    return offset, members


def _read_tail(path: Path) -> Tuple[int, bytes]:
    """Return the size and the last bytes of a file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BundleError(f"{path} is not a file. Give the path of a .bmz file.")
        with path.open("rb") as stream:
            stream.seek(max(0, status.st_size - _END_RECORD.size - _ZIP64_LOCATOR_BYTES))
            return status.st_size, stream.read(_END_RECORD.size + _ZIP64_LOCATOR_BYTES)
    except OSError as error:
        raise BundleError(f"Cannot read {path}: {error.strerror}. Give the path of a .bmz file.") from error


def _refusal(path: Path, reason: str) -> BundleError:
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "..."
    return BundleError(f"{path} is not a valid bundle: {reason}. Build it again with `blendmask quantize`.")
