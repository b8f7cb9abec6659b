"""Ed25519 signature (RFC 8032) of a bundle: 64 bytes over `manifest.json`, which holds the hash of every graph."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import os
from pathlib import Path
from typing import Any, Iterator, List, Optional, Sequence, Union

from blendmask_edge.errors import ConfigError, DependencyError, SignatureError, install_command
from blendmask_edge.storage.atomic import PathLike
from blendmask_edge.storage.bounded import read_bounded

SIGNATURE_NAME = "signature"
SIGNATURE_BYTES = 64
KEY_VARIABLE = "BLENDMASK_PUBLIC_KEY"
"""Environment variable with paths of public keys; where it is set, every bundle needs a signature by one of them."""
_MOST_KEY_BYTES = 2**16

Key = Union[PathLike, bytes]
"""A key in PEM format: path of the file, or its bytes."""
Keys = Union[Key, Sequence[Key]]

_BLOCKS: List[List[Key]] = []
"""Keys of the blocks of `require_signature` that are open, the innermost last."""


@contextlib.contextmanager
def require_signature(public_key: Keys) -> Iterator[None]:
    """Require that each bundle opened in the block is signed, by whichever function and thread of this process.

    A call with `public_key` of its own takes that.

    Args:
        public_key: Ed25519 public key in PEM format, its path or its bytes, or several of which one must have signed.

    Raises:
        ConfigError: a key cannot be read, or there is none.
        DependencyError: the package cryptography is not installed.

    Example:
        >>> from blendmask_edge import compare, compile, require_signature  # doctest: +SKIP
        >>> with require_signature("public.pem"):  # doctest: +SKIP
        ...     compare("old.bmz", "new.bmz", images="images")
        ...     compile("new.bmz", "jetson-orin-nano")
    """
    keys = _as_list(public_key)
    if not keys:
        raise ConfigError("No public key is given. Give the path of one, in PEM format.")
    for key in keys:
        load_key(key, "public")
    _BLOCKS.append(keys)
    try:
        yield
    finally:
        _BLOCKS.remove(keys)


def required_keys(public_key: Optional[Keys]) -> List[Key]:
    """Return the keys of which one must have signed a bundle; none where no signature is required.

    Args:
        public_key: one key or several; None takes those of `require_signature`, else of the environment, an empty list
            none.
    """
    if public_key is not None:
        return _as_list(public_key)
    if _BLOCKS:
        return list(_BLOCKS[-1])
    return [path for path in os.environ.get(KEY_VARIABLE, "").split(os.pathsep) if path]


def required_pems() -> List[bytes]:
    """Return the keys of which one must have signed a bundle as bytes, for another process.

    Raises:
        ConfigError: a key cannot be read.
    """
    return [key if isinstance(key, bytes) else _read_key(key, "public") for key in required_keys(None)]


def _as_list(public_key: Keys) -> List[Key]:
    return list(public_key) if isinstance(public_key, (list, tuple)) else [public_key]  # type: ignore[list-item]


def absolute_keys(keys: Any) -> Any:
    """Return keys, or None, with absolute paths, which another process can open."""
    if isinstance(keys, (list, tuple)):
        return [absolute_keys(key) for key in keys]
    return str(Path(keys).absolute()) if isinstance(keys, (str, os.PathLike)) else keys


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
        if is_signed_by(key, signature, manifest):
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
    data = key if isinstance(key, bytes) else _read_key(key, kind)
    try:
        if kind == "public":
            loaded = serialization.load_pem_public_key(data)
        else:
            password = os.environ.get("BLENDMASK_KEY_PASSWORD")
            loaded = serialization.load_pem_private_key(data, password.encode() if password else None)
    except Exception as error:  # its exceptions share no base
        raise ConfigError(f"{name} is not a {kind} key in PEM format: {error}. {_ADVICE}") from error
    expected = ed25519.Ed25519PublicKey if kind == "public" else ed25519.Ed25519PrivateKey
    if not isinstance(loaded, expected):
        raise ConfigError(f"{name} is not an Ed25519 key. {_ADVICE}")
    return loaded


def _read_key(path: PathLike, kind: str) -> bytes:
    try:
        return read_bounded(path, _MOST_KEY_BYTES)
    except (OSError, TypeError, ValueError) as error:  # the latter two are of what is no path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Cannot read {path}: {reason}. Give the path of a {kind} key.") from error


_ADVICE = "Make a pair with `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`."


def fingerprint(public_key: Any) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a public key's 32 bytes."""
    return hashlib.sha256(raw_bytes(public_key)).hexdigest()[:16]


def raw_bytes(public_key: Any) -> bytes:
    """Return the 32 bytes of a public key."""
    _, serialization = _modules()
    return bytes(public_key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw))


def load_raw_key(data: bytes) -> Any:
    """Return the public key of 32 bytes.

    Raises:
        DependencyError: the package cryptography is not installed.
    """
    ed25519, _ = _modules()
    return ed25519.Ed25519PublicKey.from_public_bytes(data)


def is_signed_by(public_key: Any, signature: bytes, data: bytes) -> bool:
    """Whether a key made a signature of the data."""
    invalid: Any = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        public_key.verify(signature, data)
    except invalid:
        return False
    return True


def _modules() -> Any:
    try:
        return (
            importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519"),
            importlib.import_module("cryptography.hazmat.primitives.serialization"),
        )
    except ImportError as error:
        raise DependencyError(f"Signatures need cryptography ({error}). Type: {install_command('sign')}") from error
