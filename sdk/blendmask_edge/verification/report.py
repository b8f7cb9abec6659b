"""The report of a device: one JSON file, with a signature over the bytes of the report in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

import msgspec

from blendmask_edge.benchmark.machine import Machine
from blendmask_edge.bundle.signature import Key, fingerprint, is_signed_by, load_key, load_raw_key, raw_bytes
from blendmask_edge.errors import BaselineError, SignatureError
from blendmask_edge.storage.atomic import write_bytes
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SCHEMA_VERSION = 1
PASSED, FAILED, LEFT, ABSENT, SKIPPED = "passed", "failed", "limit left", "not available", "skipped"
STATUSES = (PASSED, FAILED, LEFT, ABSENT, SKIPPED)
_MOST_BYTES = 2**24
_HEX = re.compile(r"[0-9a-f]+\Z")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One part of one route.

    route, part: names, as in `routes` and `parts`.   status: one of `STATUSES`.   reason: why it did not pass, and
    `next` what to do about it; empty where it passed.   metrics: numbers by name.   notes: what to know before the
    numbers are used.   seconds: of the part.
    """

    route: str
    part: str
    status: str
    reason: str = ""
    next: str = ""
    metrics: Dict[str, float] = {}
    notes: List[str] = []
    seconds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a status that no part has."""
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}, expected one of {', '.join(STATUSES)}")


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle: name of the file, model, SHA-256 of the file."""

    bundle: str
    model: str
    sha256: str


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """The GPU: name, compute capability, driver."""

    name: str
    sm: str
    driver: str


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that was measured on a device.

    target: name in the table of devices.   created: ISO 8601, UTC.   generator: this package with its version.
    gpu: None on a device without one.   toolchains: version of each compiler and runtime that is there.   power: power
    mode and limits, by name.   data: annotation file or folder of images, and the number of images.
    """

    schema_version: int = SCHEMA_VERSION
    target: str
    title: str
    created: str
    generator: str
    subject: Subject
    machine: Machine
    gpu: Optional[Gpu] = None
    toolchains: Dict[str, str] = {}
    power: Dict[str, str] = {}
    data: str = ""
    images: int = 0
    rows: List[Row] = []

    def row(self, route: str, part: str) -> Optional[Row]:
        """Return the row of a part; None where there is none."""
        return next((row for row in self.rows if (row.route, row.part) == (route, part)), None)

    def of(self, status: str) -> List[Row]:
        """Return the rows of a status."""
        return [row for row in self.rows if row.status == status]


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Ed25519 over the bytes of `report`: the public key and the signature in hexadecimal digits."""

    public_key: str
    value: str

    def __post_init__(self) -> None:
        """Refuse what is not a key or a signature."""
        for name, text, digits in (("public_key", self.public_key, 64), ("value", self.value, 128)):
            if len(text) != digits or not _HEX.match(text):
                raise ValueError(f"signature has no sound {name}")


class SignedReport(msgspec.Struct, frozen=True, kw_only=True):
    """A report as it was read, and the fingerprint of the key that signed it; empty without a signature."""

    report: DeviceReport
    signed_by: str = ""


class _File(msgspec.Struct, kw_only=True):
    report: msgspec.Raw
    signature: Optional[Signature] = None


class _Header(msgspec.Struct):
    schema_version: int


def write_report(path: PathLike, report: DeviceReport, private_key: Optional[Key] = None) -> str:
    """Write a report, whole or not at all, and return the fingerprint of the key; empty without a key.

    Args:
        path: of the JSON file.
        report: what was measured.
        private_key: Ed25519 key in PEM format; $BLENDMASK_KEY_PASSWORD decrypts it.

    Raises:
        ConfigError: the key cannot be read.
        DependencyError: the package cryptography is not installed.
        OutputError: the file cannot be written.
    """
    body = msgspec.json.format(msgspec.json.encode(report), indent=2)
    signature, name = None, ""
    if private_key is not None:
        key = load_key(private_key, "private")
        signature = Signature(public_key=raw_bytes(key.public_key()).hex(), value=key.sign(body).hex())
        name = fingerprint(key.public_key())
    write_bytes(path, msgspec.json.encode(_File(report=msgspec.Raw(body), signature=signature)) + b"\n")
    return name


def read_report(path: PathLike, keys: Sequence[Key] = ()) -> SignedReport:
    """Read a report, and check its signature where it has one.

    Args:
        path: of the JSON file.
        keys: public keys in PEM format of which one must have signed it; none where no signature is required.

    Raises:
        BaselineError: no such file, not JSON, another schema version, or a field missing, of a wrong type or out of
            range.
        SignatureError: the signature is wrong, or one is required and missing or of another key.
        ConfigError: a key cannot be read.
        DependencyError: the package cryptography is not installed.
    """
    wanted = [load_key(key, "public") for key in keys]
    try:
        data = read_bounded(path, _MOST_BYTES)
        file = msgspec.json.decode(data, type=_File)
        version = msgspec.json.decode(file.report, type=_Header).schema_version
        if version != SCHEMA_VERSION:
            raise BaselineError(
                f"{path} is a report of schema version {version}, this release reads {SCHEMA_VERSION}. "
                f"{'Upgrade blendmask-edge' if version > SCHEMA_VERSION else 'Verify the device again'}."
            )
        report = msgspec.json.decode(file.report, type=DeviceReport)
    except OSError as error:
        raise BaselineError(f"Cannot read {path}: {error.strerror}. {_ADVICE}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BaselineError(f"{path} is not a valid report of a device: {str(error)[:200]}. {_ADVICE}") from error
    return SignedReport(report=report, signed_by=_check_signature(path, bytes(file.report), file.signature, wanted))


_ADVICE = "Give the report.json that `blendmask verify-device` wrote."


def _check_signature(path: PathLike, body: bytes, signature: Optional[Signature], wanted: Sequence[Any]) -> str:
    names = [fingerprint(key) for key in wanted]
    if signature is None:
        if wanted:
            raise SignatureError(f"{path} is not signed, and a signature of {' or '.join(names)} is required.")
        return ""
    key = load_raw_key(bytes.fromhex(signature.public_key))
    if not is_signed_by(key, bytes.fromhex(signature.value), body):
        raise SignatureError(f"{path} was changed after it was signed. Do not use it; get it again from its author.")
    name = fingerprint(key)
    if wanted and name not in names:
        raise SignatureError(f"{path} is signed by {name}, not by {' or '.join(names)}. Get it from its author.")
    return name
