"""Ed25519 signature (RFC 8032) of a bundle: 64 bytes over `manifest.json`, which holds the hash of every graph."""

from __future__ import annotations

import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

from blendmask_edge.errors import ConfigError, DependencyError, SignatureError, install_command
from blendmask_edge.storage.atomic import PathLike

SIGNATURE_NAME = "signature"
SIGNATURE_BYTES = 64
KEY_VARIABLE = "BLENDMASK_PUBLIC_KEY"
"""Environment variable with paths of public keys; where it is set, every bundle needs a signature by one of them."""
_MOST_KEY_BYTES = 2**16

Key = Union[PathLike, bytes]
"""A key in PEM format: path of the file, or its bytes."""
Keys = Union[Key, Sequence[Key]]


def required_keys(public_key: Optional[Keys]) -> List[Key]:
    """Return the keys of which one must have signed a bundle; none where no signature is required.

    Args:
        public_key: one key or several; None takes those of the environment, an empty list none.
    """
    if public_key is None:
        return [path for path in os.environ.get(KEY_VARIABLE, "").split(os.pathsep) if path]
    return list(public_key) if isinstance(public_key, (list, tuple)) else [public_key]  # type: ignore[list-item]


def check_signature(location: Path, manifest: bytes, signature: Optional[bytes], keys: Sequence[Key]) -> str:
    """See that one of the keys signed a manifest; return the fingerprint of that key.

    Args:
        location: path of the bundle, for messages.
        manifest: bytes of `manifest.json`.
        signature: bytes of the member `signature`; None where there is none.
        keys: public keys in PEM format.

    Raises:
        SignatureError: there is no signature, or none of the keys made it.
        ConfigError: a key cannot be read.
        DependencyError: the package cryptography is not installed.
    """
    loaded = [load_key(key, "public") for key in keys]
    if signature is None:
        raise SignatureError(
            f"{location} is not signed, and a signature is required. Get a signed bundle, or sign it with "
            f"`blendmask sign {location} --key PRIVATE.pem`."
        )
    for key in loaded:
        if _is_signed_by(key, signature, manifest):
            return fingerprint(key)
    known = ", ".join(fingerprint(key) for key in loaded)
    raise SignatureError(
        f"{location} was not signed by {known}, or was changed afterwards. Do not use it; get it again from its author."
    )


def load_key(key: Key, kind: str) -> Any:
    """Return an Ed25519 key.

    Args:
        key: PEM file, or its bytes.
        kind: "public" or "private". A private key may be encrypted by $BLENDMASK_KEY_PASSWORD.

    Raises:
        ConfigError: it is something else.
        DependencyError: the package cryptography is not installed.
    """
    ed25519, serialization = _modules()
    name = "the key" if isinstance(key, bytes) else str(key)
    try:
        data = key if isinstance(key, bytes) else _read(Path(key))
        if kind == "public":
            loaded = serialization.load_pem_public_key(data)
        else:
            password = os.environ.get("BLENDMASK_KEY_PASSWORD")
            loaded = serialization.load_pem_private_key(data, password.encode() if password else None)
    except OSError as error:
        raise ConfigError(f"Cannot read {name}: {error.strerror}. Give the path of a {kind} key.") from error
    except Exception as error:  # its exceptions share no base
        raise ConfigError(f"{name} is not a {kind} key in PEM format: {error}. {_ADVICE}") from error
    expected = ed25519.Ed25519PublicKey if kind == "public" else ed25519.Ed25519PrivateKey
    if not isinstance(loaded, expected):
        raise ConfigError(f"{name} is not an Ed25519 key. {_ADVICE}")
    return loaded


_ADVICE = "Make a pair with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`."


def fingerprint(public_key: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    _, serialization = _modules()
    raw = public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def _is_signed_by(public_key: Any, signature: bytes, data: bytes) -> bool:
    invalid: Any = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        public_key.verify(signature, data)
    except invalid:
        return False
    return True


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MOST_KEY_BYTES)


def _modules() -> Any:
    try:
        return (
            importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519"),
            importlib.import_module("cryptography.hazmat.primitives.serialization"),
        )
    except ImportError as error:
        raise DependencyError(f"Signatures need cryptography ({error}). Type: {install_command('sign')}") from error
