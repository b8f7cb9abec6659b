"""Write a bundle: one zip file, whole or not at all."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO, Mapping

from blendmask_edge.bundle.archive import Archive
from blendmask_edge.bundle.graph_check import check_graph
from blendmask_edge.bundle.limits import MAX_FILE_BYTES, MAX_MANIFEST_BYTES
from blendmask_edge.bundle.manifest import MANIFEST_NAME, GraphEntry, Manifest, decode_manifest, encode_manifest
from blendmask_edge.errors import BundleError
from blendmask_edge.storage.atomic import PathLike, replacing

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: PathLike, manifest: Manifest, graphs: Mapping[str, bytes]) -> Path:
    """Write `manifest` and the ONNX files `graphs`, keyed by variant, to `path` and return it.

    The same manifest and graphs give the same bytes.

    Raises:
        BundleError: `graphs` are not those the manifest describes, or a reader would refuse the file.
        OutputError: `path` cannot be written; nothing is left behind.
    """
    if set(graphs) != set(manifest.graphs):
        raise BundleError(f"The manifest describes the graphs {sorted(manifest.graphs)}, given were {sorted(graphs)}.")
    for variant, entry in manifest.graphs.items():
        _check_described(variant, entry, graphs[variant])
    header = encode_manifest(manifest)
    if len(header) > MAX_MANIFEST_BYTES:
        raise BundleError(f"The manifest has {len(header)} bytes, at most {MAX_MANIFEST_BYTES} are read. Shorten it.")
    decode_manifest(header)
    members = {MANIFEST_NAME: header, **{entry.file: graphs[name] for name, entry in manifest.graphs.items()}}
    return write_members(path, members)


def write_members(path: PathLike, members: Mapping[str, bytes]) -> Path:
    """Write the members of a bundle, keyed by name, to `path` and return it.

    Raises:
        BundleError: a reader would refuse the file.
        OutputError: `path` cannot be written; nothing is left behind.
    """
    with replacing(path) as stream:
        _write_zip(stream, members)
    return Path(path)


def _check_described(variant: str, entry: GraphEntry, data: bytes) -> None:
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"Graph {variant!r} is not the one the manifest describes; use GraphEntry.describe.")
    try:
        check_graph(data)
    except BundleError as error:
        raise BundleError(f"Graph {variant!r} cannot go into a bundle: {error}. Export it again.") from error


def _write_zip(stream: BinaryIO, members: Mapping[str, bytes]) -> None:
    """Write what a reader will take.

    Raises:
        BundleError: a reader would refuse it.
    """
    try:
        with zipfile.ZipFile(stream, "w", allowZip64=False) as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, _FIRST_ZIP_DATE)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data)
        Archive(stream)
    except zipfile.LargeZipFile as error:
        raise BundleError(f"The bundle would have more than {MAX_FILE_BYTES} bytes. Leave a graph out.") from error
    except BundleError as error:
        raise BundleError(f"A reader would refuse this bundle: {error}.") from error
