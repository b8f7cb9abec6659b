"""Pairs of keys for tests of signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple


def write_keys(folder: Path, name: str, password: bytes = b"") -> Tuple[Path, Path]:
    """Write a pair of keys; return the private and the public one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate()
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    formats = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, formats[0], encryption))
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, formats[1]))
    return private, public
