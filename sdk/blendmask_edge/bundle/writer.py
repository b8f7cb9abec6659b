"""Write a bundle: one zip file, whole or not at all."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Mapping

from blendmask_edge.bundle.atomic import PathLike, replacing
from blendmask_edge.bundle.manifest import MANIFEST_NAME, GraphEntry, Manifest, encode_manifest
from blendmask_edge.errors import BundleError

_FIRST_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: PathLike, manifest: Manifest, graphs: Mapping[str, bytes]) -> Path:
    """Write `manifest` and the ONNX files `graphs`, keyed by flavour, to `path` and return it.

    The same manifest and graphs give the same bytes.

    Raises:
        BundleError: `graphs` are not those the manifest describes.
        OutputError: `path` cannot be written; nothing is left behind.
    """
    if set(graphs) != set(manifest.graphs):
        raise BundleError(f"The manifest describes the graphs {sorted(manifest.graphs)}, given were {sorted(graphs)}.")
    for flavour, entry in manifest.graphs.items():
        _check_described(flavour, entry, graphs[flavour])
    with replacing(path) as stream, zipfile.ZipFile(stream, "w", allowZip64=False) as archive:
        _add(archive, MANIFEST_NAME, encode_manifest(manifest))
        for flavour, entry in manifest.graphs.items():
            _add(archive, entry.file, graphs[flavour])
    return Path(path)


def _check_described(flavour: str, entry: GraphEntry, data: bytes) -> None:
    if len(data) != entry.size or hashlib.sha256(data).hexdigest() != entry.sha256:
        raise BundleError(f"Graph {flavour!r} is not the one the manifest describes; use GraphEntry.describe.")


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _FIRST_ZIP_DATE)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)
