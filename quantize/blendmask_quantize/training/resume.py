"""The state of a training loop: what it goes on from after it was stopped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from blendmask_edge.errors import CheckpointError
from blendmask_edge.storage.atomic import replacing
from blendmask_quantize.runs.run_folder import RESUME_FILE, unfinished

__all__ = ["RESUME_FILE", "Progress", "RunState"]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        iteration: the next step.
        seconds: trained so far.
    """

    iteration: int = 0
    seconds: float = 0.0


class _Watched:
    """A stream that remembers why it took no more: torch raises an error of its own in place of that."""

    def __init__(self, stream: BinaryIO) -> None:
        self.stream = stream
        self.failure: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.stream.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.stream.flush()


def _save(state: dict[str, Any], stream: BinaryIO) -> None:
    watched = _Watched(stream)
    as_file: Any = watched
    try:
        torch.save(state, as_file)
    except RuntimeError as error:
        if watched.failure is None:
            raise
        raise watched.failure from error


@dataclass(frozen=True)
class RunState:
    """Everything that changes while a run goes on.

    Attributes:
        path: the file.
        identity: what a file must have been written with to be read.
        model, average: the trained and the averaged weights.
        optimizer: with its moments.
        precision: with the scale of a loss in half precision; has `state_dict` and `load_state_dict`.
    """

    path: Path
    identity: str
    model: nn.Module
    average: nn.Module
    optimizer: Any
    precision: Any

    def save(self, iteration: int, seconds: float) -> None:
        """Write the file; it appears whole or not at all.

        Args:
            iteration: the next step.
            seconds: trained so far.

        Raises:
            OutputError: it cannot be written, as on a full disk.
        """
        state = {
            "iteration": iteration,
            "seconds": seconds,
            "identity": self.identity,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        with replacing(self.path) as stream:
            _save(state, stream)

    def restore(self, resume: bool) -> Progress:
        """Fill everything from the file where there is one.

        Raises:
            CheckpointError: the file is damaged or belongs to another run, or is there without `resume`.
        """
        if not self.path.exists():
            return Progress()
        if not resume:
            raise unfinished(self.path.parent)
        state = self._read()
        if state["identity"] != self.identity:
            raise self._foreign("was started with other images, weights or options")
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._foreign("has another network or optimizer") from error
        return Progress(state["iteration"], state["seconds"])

    def _parts(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("model", "average", "optimizer", "precision")}

    def _read(self) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            whole = {"identity": "", "precision": {}, "seconds": 0.0, **state}
            return whole | {"iteration": int(whole["iteration"]), "seconds": float(whole["seconds"])}
        except Exception as error:  # what a damaged pickle raises depends on its bytes
            reason = f"{type(error).__name__} {error}".splitlines()[0][:100]
            raise CheckpointError(
                f"{self.path}, the state to go on from, cannot be read ({reason}): put back a copy of it, or remove "
                f"{self.path.parent} to start again"
            ) from error

    def _foreign(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} belongs to another run, which {reason}: resume it with what it was started with, name "
            f"another --output, or remove {self.path.parent} to start again"
        )
