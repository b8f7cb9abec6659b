"""Sign a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from blendmask_edge.bundle.archive import Archive
from blendmask_edge.bundle.manifest import MANIFEST_NAME
from blendmask_edge.bundle.reader import Bundle
from blendmask_edge.bundle.signature import SIGNATURE_NAME, Key, fingerprint, load_key
from blendmask_edge.bundle.writer import write_members
from blendmask_edge.storage.atomic import PathLike


def sign_bundle(path: PathLike, private_key: Key, output: Optional[PathLike] = None) -> str:
    """Sign a bundle, whose graphs are checked before, and return the fingerprint of the public key.

    Args:
        path: path of the .bmz file.
        private_key: Ed25519 key in PEM format; $BLENDMASK_KEY_PASSWORD decrypts it.
        output: path of the signed bundle; None replaces the file. A signature that it has is replaced.

    Raises:
        BundleError: the file is not a valid bundle.
        ConfigError: the key cannot be read.
        DependencyError: the package cryptography is not installed.
        OutputError: the output cannot be written; nothing is left behind.
    """
    key = load_key(private_key, "private")
    bundle = Bundle.open(path, public_key=())
    for variant in bundle.manifest.graphs:
        bundle.graph(variant)
    with Path(path).open("rb") as stream:
        archive = Archive(stream)
        members = {name: archive.read(name) for name in archive.members if name != SIGNATURE_NAME}
    members[SIGNATURE_NAME] = key.sign(members[MANIFEST_NAME])
    write_members(path if output is None else output, members)
    return fingerprint(key.public_key())
