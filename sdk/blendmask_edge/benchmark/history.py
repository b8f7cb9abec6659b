"""A history of runs: a folder with one JSON file per run, which is only ever added to.

A file of its own for each run lets runs on several machines or branches share a folder under version control: nothing
is rewritten, so nothing conflicts, and an interrupted run leaves no part of a record.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, List

import msgspec

from blendmask_edge.benchmark.gate import WITHIN, Change
from blendmask_edge.benchmark.record import Record
from blendmask_edge.errors import BaselineError, OutputError
from blendmask_edge.storage.atomic import check_writable, output_error, write_bytes
from blendmask_edge.storage.bounded import read_bounded

if TYPE_CHECKING:
    from blendmask_edge.storage.atomic import PathLike

SCHEMA_VERSION = 1
RECORD = "blendmask bench ... --record DIR"
_COMMIT_VARIABLES = ("GITHUB_SHA", "CI_COMMIT_SHA")
_COMMIT_LENGTH = 12
_MOST_BYTES = 2**24
_GIT_SECONDS = 5


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A record in a history.

    `label` is what the user called the run, `commit` the commit that was checked out; either may be empty. `changes`
    are the limited metrics if the run was compared with a baseline, `disturbances` signs that its times mean nothing.
    """

    schema_version: int = SCHEMA_VERSION
    label: str = ""
    commit: str = ""
    record: Record
    changes: List[Change] = []
    disturbances: List[str] = []

    @property
    def name(self) -> str:
        """Label or commit, else when it was measured."""
        return self.label or self.commit or self.record.created

    @property
    def left(self) -> List[Change]:
        """The limits that were left."""
        return [change for change in self.changes if change.result != WITHIN]


def append(folder: PathLike, run: Run) -> Path:
    """Add a run to a history, whole or not at all, and return its file; the folder is made if it is missing.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    data = msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n"
    moment = run.record.created[:19].replace("-", "").replace(":", "")
    path = Path(folder) / f"{moment}Z-{hashlib.sha256(data).hexdigest()[:8]}.json"
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise output_error(path.parent, error) from error
    write_bytes(path, data)
    return path


def check_folder(folder: PathLike) -> None:
    """See before long work that a record can be added to a folder.

    Raises:
        OutputError: it is a file, lies in a folder that does not exist, or cannot be written to.
    """
    target = Path(folder)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file, expected a folder of records. Give another folder with --record.")
    if not target.exists() and not target.absolute().parent.is_dir():
        raise OutputError(f"{target} lies in a folder that does not exist. Make that first, or give another folder.")
    check_writable(target / "record.json" if target.exists() else target)


def read_history(folder: PathLike) -> List[Run]:
    """Return the runs of a history, the oldest first.

    Raises:
        BaselineError: the folder holds no record, or a file in it is not a valid record.
    """
    files = sorted(Path(folder).glob("*.json"))
    if not files:
        raise BaselineError(f"{folder} holds no record. Make one with: {RECORD}")
    runs = [decode_run(file, _read(file)) for file in files]
    return sorted(runs, key=lambda run: run.record.created)


def decode_run(path: PathLike, data: bytes) -> Run:
    """Read a run from JSON.

    Args:
        path: where it is from, for the message.
        data: the JSON.

    Raises:
        BaselineError: not JSON, another schema version, or a field is missing or of a wrong type.
    """
    try:
        version = msgspec.json.decode(data, type=_Header).schema_version
        if version != SCHEMA_VERSION:
            newer = "Upgrade blendmask-edge" if version > SCHEMA_VERSION else "Measure again"
            raise BaselineError(
                f"{path} is a record of schema version {version}, this release reads {SCHEMA_VERSION}. {newer}, or "
                "move the file elsewhere."
            )
        return msgspec.json.decode(data, type=Run)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BaselineError(
            f"{path} is not a valid record of `blendmask bench`: {error}. Restore it, or move it elsewhere."
        ) from error


class _Header(msgspec.Struct):
    schema_version: int


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _MOST_BYTES)
    except OSError as error:
        raise BaselineError(f"Cannot read {path}: {error.strerror}. Restore it, or move it elsewhere.") from error


def this_commit() -> str:
    """Return the commit that is checked out, from the variables of a pipeline or from git; empty if unknown."""
    for name in _COMMIT_VARIABLES:
        if os.environ.get(name):
            return os.environ[name][:_COMMIT_LENGTH]
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=_GIT_SECONDS, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()[:_COMMIT_LENGTH] if done.returncode == 0 else ""
