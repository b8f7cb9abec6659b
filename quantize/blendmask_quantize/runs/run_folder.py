"""The folder that holds the state of a long command: who owns it, and whether it may be resumed."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from blendmask_edge.errors import CheckpointError, OutputError
from blendmask_edge.storage.atomic import output_error, write_bytes

RECORD_FILE = "run.json"
"""Names the command that makes the run, and what it makes it from."""
MODEL_FILE = "model.safetensors"
"""The result of a training run."""
RESUME_FILE = "last.pt"
"""The state of the training loop."""
START_FILE = "start.safetensors"
"""The pruned network before fine-tuning."""
PRUNED_FILE = "pruned.safetensors"
"""The pruned network after fine-tuning, where a recipe goes on with it; the run that makes it lies beside it."""
ROUND_FILES = "round-*.safetensors"
"""The networks after the earlier rounds of pruning; the state of each round lies in a folder of the same name."""
LOG_FILES = ("log.csv", "curves.png")
"""The losses of the training loop, as numbers and as a plot."""
_STAGE = "stage-{}.npz"
_STATE = (RESUME_FILE, START_FILE, PRUNED_FILE)
_DIGEST = re.compile("[0-9a-f]{64}")
_NESTED = Path(PRUNED_FILE).with_suffix(".run").name

Setting = int | float | str


class _Record(msgspec.Struct, frozen=True):
    command: str
    settings: dict[str, Setting]
    save_every: int = 0


@dataclass(frozen=True)
class RunFolder:
    """Where the state of a long command lies until its output is written.

    Attributes:
        path: of the folder: beside the output, see `beside`, or the output itself.
        command: what makes the output, e.g. "blendmask prune".
        settings: what the state depends on, by name; digests stand for what has no short form.
        result: the file that a finished run leaves in the folder, which then stays; empty where the folder is removed.
        save_every: steps between states of the training loop; 0 where there is none.
    """

    path: Path
    command: str
    settings: Mapping[str, Setting] = field(default_factory=dict)
    result: str = ""
    save_every: int = 0

    @classmethod
    def beside(cls, output: Path, command: str, settings: Mapping[str, Setting] | None = None) -> RunFolder:
        """Return the folder of the run that makes `output`: its name with the suffix `.run`, in place of its own."""
        name = f"{output.name if output.suffix == '.run' else output.stem}.run"
        return cls(output.with_name(name), command, settings or {})

    def check(self, *, resume: bool) -> None:
        """Refuse to overwrite a run unasked, and to resume another one than this.

        Raises:
            CheckpointError: the folder holds a finished run, an unfinished one of another command or of other settings,
                or one to resume from without `resume`.
            OutputError: there is a file in its place.
        """
        self.check_state(resume=resume)
        record = self._record()
        if self._is_begun() and record is not None:
            self._check_settings(record.settings)

    def check_state(self, *, resume: bool) -> None:
        """Check all but the settings, which take long to find out.

        Raises:
            CheckpointError, OutputError: as `check`.
        """
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise OutputError(f"{self.path}, where the run would lie, is a file: name another --output")
        if self.result and os.path.exists(self.path / self.result):
            raise CheckpointError(
                f"{self.path} holds a finished run: name another --output; to train further, start a new run with "
                f"--weights {self.path / self.result}"
            )
        if self._is_begun():
            self._check_owner()
            if not resume:
                raise unfinished(self.path)
        elif resume:
            self._check_not_lost()

    @contextlib.contextmanager
    def active(self, owns: Callable[[], bool] = lambda: True) -> Iterator[None]:
        """Mark the folder while a block runs; remove the state when the block succeeds, or fails before there is any.

        Args:
            owns: whether this process removes; asked at the end, of each of several that train together.

        Raises:
            OutputError: the folder cannot be made.
        """
        try:
            self.path.mkdir(exist_ok=True, parents=bool(self.result))
        except OSError as error:
            raise output_error(self.path, error) from error
        _remove_parts(self.path)
        record = _Record(self.command, dict(self.settings), self.save_every)
        write_bytes(self.path / RECORD_FILE, msgspec.json.format(msgspec.json.encode(record)))
        done = False
        try:
            yield
            done = True
        finally:
            if owns():
                self._leave(done)

    @contextlib.contextmanager
    def telling_how_to_go_on(self) -> Iterator[None]:
        """Let an interruption of a block by the user say what is kept, and how to go on; to be entered before `active`.

        Raises:
            KeyboardInterrupt: that of the block; its message stays as it is where nothing is kept.
        """
        try:
            yield
        except KeyboardInterrupt as error:
            kept, record = f"interrupted; the work so far is kept in {self.path}", self._record()
            if self._is_begun() and record is not None and record.command == self.command:
                raise KeyboardInterrupt(f"{kept}: the same command with --resume goes on from there") from error
            if any(self.path.glob(_STAGE.format("*"))):
                raise KeyboardInterrupt(f"{kept}: the same command goes on from there") from error
            raise

    def _leave(self, done: bool) -> None:
        keeps = self._is_begun() or any(self.path.glob(_STAGE.format("*")))
        if not self.result and (done or not keeps):
            _clear(self.path)
        elif done:
            (self.path / RESUME_FILE).unlink(missing_ok=True)
        elif not self._is_begun():
            (self.path / RECORD_FILE).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()

    def _check_owner(self) -> None:
        record = self._record()
        if record is None:
            raise CheckpointError(
                f"{self.path} holds an unfinished run, but no {RECORD_FILE} that says what it was started with: remove "
                "the folder, or name another --output"
            )
        if record.command != self.command:
            raise CheckpointError(
                f"{self.path} holds an unfinished run of `{record.command}`, not of `{self.command}`: finish that run "
                "first, remove the folder, or name another --output"
            )

    def _check_not_lost(self) -> None:
        """See that no state was written before; a run that was stopped before its first one starts again."""
        record = self._record()
        steps = _logged_steps(self.path / LOG_FILES[0])
        if record is not None and 0 < record.save_every <= steps:
            raise CheckpointError(
                f"{self.path / RESUME_FILE}, the state to go on from, is missing, although {LOG_FILES[0]} has {steps} "
                "steps: put it back, or start again without --resume"
            )

    def discard(self) -> None:
        """Remove the state of this command's run, if there is any; that of another command stays."""
        record = self._record()
        if record is not None and record.command == self.command:
            _clear(self.path)

    def _is_begun(self) -> bool:
        named = any(os.path.exists(self.path / name) for name in (*_STATE, _NESTED))
        return named or any(self.path.glob("round-*"))

    def _record(self) -> _Record | None:
        """The record in the folder; None where there is none that can be read."""
        try:
            return msgspec.json.decode((self.path / RECORD_FILE).read_bytes(), type=_Record)
        except (OSError, msgspec.MsgspecError):
            return None

    def _check_settings(self, stored: Mapping[str, Setting]) -> None:
        changed = [
            _difference(name, stored.get(name), wanted)
            for name, wanted in self.settings.items()
            if stored.get(name) != wanted
        ]
        if changed:
            raise CheckpointError(
                f"{self.path} holds a run with {', '.join(changed)}: resume it with what it was started with, name "
                "another --output, or remove the folder to start again"
            )


def unfinished(folder: Path) -> CheckpointError:
    """Return the refusal to overwrite the state in a folder."""
    return CheckpointError(f"{folder} holds an unfinished run: go on with --resume, or remove it to start again")


def _difference(name: str, recorded: Setting | None, wanted: Setting) -> str:
    if isinstance(wanted, str) and _DIGEST.fullmatch(wanted):
        return f"another {name}"
    return f"{name} {'unknown' if recorded is None else recorded} instead of {wanted}"


def _logged_steps(log: Path) -> int:
    """Lines below the head of a log."""
    try:
        with log.open("rb") as file:
            return max(0, sum(1 for _ in file) - 1)
    except OSError:
        return 0


def _remove_parts(folder: Path) -> None:
    """Remove what a killed process left of a state that it was writing."""
    for name in _STATE:
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


def stage_file(folder: Path, stage: str) -> Path:
    """Return the file in a run folder that keeps the result of a stage."""
    return folder / _STAGE.format(stage)


def round_file(folder: Path, number: int) -> Path:
    """Return the file in a run folder that holds the network after an earlier round of pruning."""
    return folder / ROUND_FILES.replace("*", str(number))


def clear_stages(folder: Path) -> None:
    """Remove the kept results of stages, and the folder if nothing else is in it."""
    for path in folder.glob(_STAGE.format("*")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _clear(folder: Path) -> None:
    """Remove the files of a run; a foreign file stays, and the folder with it."""
    for nested in (folder / _NESTED, *folder.glob("round-*/")):
        if nested.is_dir():
            _clear(nested)
    for path in folder.glob(ROUND_FILES):
        path.unlink()
    for name in (*_STATE, *LOG_FILES, RECORD_FILE):
        (folder / name).unlink(missing_ok=True)
    clear_stages(folder)
