"""The folder beside an output that holds the state of a long command: who owns it, and whether it may be resumed."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from torch import nn

from blendmask_edge.errors import CheckpointError, OutputError
from blendmask_edge.storage.atomic import output_error, write_bytes

RECORD_FILE = "run.json"
"""Names the command that makes the run, and what it makes it from."""
RESUME_FILE = "last.pt"
"""The state of the training loop."""
START_FILE = "start.safetensors"
"""The pruned network before fine-tuning."""
PRUNED_FILE = "pruned.safetensors"
"""The pruned network after fine-tuning, where a recipe goes on with it; the run that makes it lies beside it."""
LOG_FILES = ("log.csv", "curves.png")
"""The losses of the training loop, as numbers and as a plot."""
_STATE = (RESUME_FILE, START_FILE, PRUNED_FILE)
_NESTED = Path(PRUNED_FILE).with_suffix(".run").name

Setting = int | float | str


class _Record(msgspec.Struct, frozen=True):
    command: str
    settings: dict[str, Setting]


@dataclass(frozen=True)
class RunFolder:
    """Where the state of a long command lies until its output is written.

    Attributes:
        path: of the folder, see `beside`.
        command: what makes the output, e.g. "blendmask prune".
        settings: what the state depends on, by name; numbers, or digests of what has no short name.
    """

    path: Path
    command: str
    settings: Mapping[str, Setting] = field(default_factory=dict)

    @classmethod
    def beside(cls, output: Path, command: str, settings: Mapping[str, Setting] | None = None) -> RunFolder:
        """The folder of the run that makes `output`: its name with the suffix `.run`, in place of its own."""
        name = f"{output.name if output.suffix == '.run' else output.stem}.run"
        return cls(output.with_name(name), command, settings or {})

    def check(self, *, resume: bool) -> None:
        """Refuse to overwrite an unfinished run unasked, and to resume another one than this.

        Raises:
            CheckpointError: the folder holds an unfinished run of another command or of other settings, or one to
                resume from without `resume`.
            OutputError: there is a file in its place.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OutputError(f"{self.path}, where the run would lie, is a file: name another --output")
        if not self._is_begun():
            return
        record = self._record()
        if record is None or record.command != self.command:
            owner = "another command" if record is None else f"`{record.command}`"
            raise CheckpointError(
                f"{self.path} holds an unfinished run of {owner}, not of `{self.command}`: finish that run first, "
                "remove the folder, or name another --output"
            )
        if not resume:
            raise CheckpointError(
                f"{self.path} holds an unfinished run: go on with --resume, or remove it to start again"
            )
        self._check_settings(record.settings)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Mark the folder while a block runs. Remove it when the block succeeds, or fails before there is any state.

        Raises:
            OutputError: the folder cannot be made.
        """
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(self.path, error) from error
        record = _Record(self.command, dict(self.settings))
        write_bytes(self.path / RECORD_FILE, msgspec.json.format(msgspec.json.encode(record)))
        done = False
        try:
            yield
            done = True
        finally:
            if done or not self._is_begun():
                _clear(self.path)

    def _is_begun(self) -> bool:
        return any((self.path / name).exists() for name in (*_STATE, _NESTED))

    def _record(self) -> _Record | None:
        """The record in the folder; None where there is none that can be read."""
        try:
            return msgspec.json.decode((self.path / RECORD_FILE).read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def _check_settings(self, stored: Mapping[str, Setting]) -> None:
        changed = [
            f"another {name}" if isinstance(wanted, str) else f"{name} {stored.get(name)} instead of {wanted}"
            for name, wanted in self.settings.items()
            if stored.get(name) != wanted
        ]
        if changed:
            raise CheckpointError(
                f"{self.path} holds a run with {', '.join(changed)}: resume it with what it was started with, name "
                "another --output, or remove the folder to start again"
            )


def network_digest(network: nn.Module) -> str:
    """SHA-256 of the weights and statistics of a network on the CPU, and of their names."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _clear(folder: Path) -> None:
    """Remove the files of a run; a foreign file stays, and the folder with it."""
    if (folder / _NESTED).is_dir():
        _clear(folder / _NESTED)
    for name in (*_STATE, *LOG_FILES, RECORD_FILE):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
