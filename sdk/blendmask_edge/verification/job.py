"""The job of a verification: values that its processes pass to each other as JSON."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import msgspec

from blendmask_edge.storage.atomic import write_bytes

PARTS_FOLDER = "parts"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A verification of one bundle on one device.

    bundle, bundle_sha256: the file and its hash.   target: name in the table of devices.   images: folder.
    annotations, data_sha256: COCO instances JSON, None without, and the hash of it, or of the names of the images.
    folder: for the report and for what each part leaves.   frames: least number of timed frames.   soak_seconds: of
    steady work on each route.   threads: of CPU runtimes.   public_keys: in PEM format, of which one must have signed
    the bundle; none where no signature is required.
    """

    bundle: str
    bundle_sha256: str
    target: str
    images: str
    annotations: Optional[str]
    data_sha256: str
    folder: str
    frames: int = 200
    soak_seconds: float = 60.0
    threads: Optional[int] = None
    public_keys: List[bytes] = []

    def part_file(self, route: str, part: str, suffix: str = "json") -> Path:
        """Return where a part leaves its row, or another file."""
        return Path(self.folder) / PARTS_FOLDER / f"{route}.{part}.{suffix}"

    def key(self, versions: Mapping[str, str]) -> str:
        """Return a digest of all that the row of a part depends on, so that it is not measured twice.

        Args:
            versions: of this package, the runtimes and the driver.
        """
        document: Dict[str, Any] = {
            **msgspec.to_builtins(self),
            "folder": "",
            "public_keys": [],
            "versions": dict(sorted(versions.items())),
        }
        return hashlib.sha256(msgspec.json.encode(document)).hexdigest()


def encode_job(job: Job) -> str:
    """Return a job as one argument of a command line."""
    return msgspec.json.encode(job).decode()


def decode_job(text: str) -> Job:
    """Return the job of `encode_job`."""
    return msgspec.json.decode(text, type=Job)


def write_json(path: Path, document: Any) -> None:
    """Write a document of a part, whole or not at all."""
    write_bytes(path, msgspec.json.encode(document))
