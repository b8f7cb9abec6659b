"""What a training run writes to go on from, and how it is read again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from blendmask_edge.errors import CheckpointError
from blendmask_edge.storage.atomic import replacing
from blendmask_quantize.runs.run_folder import RESUME_FILE


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

    def save(self, iteration: int) -> None:
        """Write the file; it appears whole or not at all."""
        state = {
            "iteration": iteration,
            "identity": self.identity,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
        }
        with replacing(self.path) as stream:
            torch.save(state, stream)

    def restore(self, resume: bool) -> int:
        """Fill everything from the file where there is one, and return the next step.

        Raises:
            CheckpointError: the file belongs to another run or is damaged, or is there without `resume`.
        """
        check_unfinished(self.path.parent, resume)
        if not self.path.exists():
            return 0
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if state.get("identity", "") != self.identity:
                raise self._foreign()
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.precision.load_state_dict(state.get("precision", {}))
            return int(state["iteration"])
        except (RuntimeError, ValueError, KeyError, EOFError, UnpicklingError) as error:
            raise self._foreign() from error

    def _foreign(self) -> CheckpointError:
        return CheckpointError(f"{self.path} belongs to another run or is damaged: remove it, or name another --output")


def check_unfinished(output: Path, resume: bool) -> None:
    """See that no run in a folder is overwritten unasked.

    Raises:
        CheckpointError: the folder holds a checkpoint to resume from, and `resume` is not set.
    """
    if (output / RESUME_FILE).exists() and not resume:
        raise CheckpointError(f"{output} holds an unfinished run: go on with --resume, or name another --output")
