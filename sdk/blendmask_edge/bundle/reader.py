"""Read a bundle in place: check limits before allocating memory and hashes before use; extract nothing."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Iterator, Optional

from blendmask_edge.bundle.archive import Archive
from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.bundle.limits import MAX_MANIFEST_BYTES
from blendmask_edge.bundle.manifest import MANIFEST_NAME, GraphEntry, Manifest, decode_manifest
from blendmask_edge.bundle.signature import SIGNATURE_BYTES, SIGNATURE_NAME, Keys, check_signature, required_keys
from blendmask_edge.errors import BundleError
from blendmask_edge.storage.atomic import PathLike
from blendmask_edge.storage.bounded import open_regular

_LONGEST_REASON = 400


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
    def open(cls, path: PathLike, public_key: Optional[Keys] = None) -> Bundle:
        """Open a bundle: check the zip file and its signature, and read its manifest.

        Args:
            path: path of the .bmz file.
            public_key: Ed25519 public keys in PEM format (paths of files, or bytes), one of which must have signed the
                bundle. None takes the paths in $BLENDMASK_PUBLIC_KEY; where that is not set, no signature is required.

        Raises:
            SignatureError: a signature is required, and missing or wrong.
            ConfigError: a key cannot be read.
            DependencyError: a signature is required, and the package cryptography is not installed.
            BundleError: the file is missing, is not a zip file, exceeds a limit, has invalid names or an invalid
                manifest, or lacks a graph that the manifest names.
        """
        location = _location(path)
        with _opened(location) as archive:
            size = archive.member(MANIFEST_NAME).size
            if size > MAX_MANIFEST_BYTES:
                raise BundleError(f"{MANIFEST_NAME} unpacks to {size} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
            data = archive.read(MANIFEST_NAME)
            signature = _signature(archive)
            sizes = {name: member.size for name, member in archive.members.items()}
        keys = required_keys(public_key)
        if keys:
            check_signature(location, data, signature, keys)
        manifest = _located(location, data)
        for entry in manifest.graphs.values():
            if entry.file not in sizes:
                raise _refusal(location, f"it has no {entry.file}")
            if sizes[entry.file] != entry.size:
                raise _refusal(location, f"the size of {entry.file} differs from the manifest")
        return cls(location, manifest)

    def graph(self, variant: str) -> bytes:
        """Read a graph and verify its hash.

        Args:
            variant: "cpu", "tensorrt" or "float".

        Returns:
            The bytes of the ONNX file.

        Raises:
            BundleError: the bundle has no such variant, the hash differs from the manifest, or the bytes are not a
                graph that a bundle may hold (docs/bundle.md, Operators).
        """
        entry = self.entry(variant)
        with _opened(self.path) as archive:
            data = _hashed(archive, entry)
            try:
                check_graph(data)
            except BundleError as error:
                raise BundleError(f"{entry.file} is refused: {error}") from error
        return data

    def entry(self, variant: str) -> GraphEntry:
        """Return the manifest's entry of a graph.

        Args:
            variant: "cpu", "tensorrt" or "float".

        Raises:
            BundleError: the bundle has no such variant.
        """
        if not isinstance(variant, str) or variant not in self.manifest.graphs:
            known = ", ".join(sorted(self.manifest.graphs))
            raise BundleError(f"{self.path} has no {variant!r} graph. Choose one of: {known}.")
        return self.manifest.graphs[variant]


def _location(path: PathLike) -> Path:
    try:
        return Path(path)
    except TypeError as error:
        kind = type(path).__name__
        raise BundleError(f"The path is a {kind}, expected str or Path. Give the path of a .bmz file.") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Archive]:
    """Open the zip; what is wrong with it, or with what is read of it inside, is said with its path."""
    try:
        with open_regular(path) as stream:
            yield Archive(stream)
    except (OSError, ValueError) as error:  # ValueError is of a path that holds a NUL
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"Cannot read {path}: {reason}. Give the path of a .bmz file.") from error
    except BundleError as error:
        raise _refusal(path, str(error)) from error


def _signature(archive: Archive) -> Optional[bytes]:
    """Return the signature; None where there is none, or one of another length."""
    member = archive.members.get(SIGNATURE_NAME)
    return archive.read(SIGNATURE_NAME) if member is not None and member.size == SIGNATURE_BYTES else None


def _hashed(archive: Archive, entry: GraphEntry) -> bytes:
    """Return a graph whose size and hash are those that the manifest states."""
    size = archive.member(entry.file).size
    if size != entry.size:
        raise BundleError(f"the size of {entry.file} differs from the manifest")
    if size > archive.size:  # a graph whose hash is wrong takes no more memory than the file has bytes
        _check_hash(entry, archive.chunks(entry.file))
    data = archive.read(entry.file)
    _check_hash(entry, [data])
    return data


def _check_hash(entry: GraphEntry, chunks: Iterable[bytes]) -> None:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    if digest.hexdigest() != entry.sha256:
        raise BundleError(f"the hash of {entry.file} differs from the manifest")


def _located(path: Path, data: bytes) -> Manifest:
    try:
        return decode_manifest(data)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error


def _refusal(path: Path, reason: str) -> BundleError:
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "..."
    return BundleError(f"{path} is not a valid bundle: {reason}. Build it again with `blendmask quantize`.")
