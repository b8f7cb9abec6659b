"""A checkpoint as the source of a predictor in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.predictor import TorchPredictor
from blendmask_quantize.runs.network_digest import network_digest


@dataclass(frozen=True)
class CheckpointSource:
    """A loaded checkpoint, which is sent to each worker.

    Attributes:
        checkpoint: the network and its labels.
        threads: threads of each worker; None leaves them to torch.
    """

    checkpoint: Checkpoint
    threads: int | None = None

    @property
    def identity(self) -> str:
        """Digest of the network, its configuration and its labels."""
        parts = (network_digest(self.checkpoint.model), self.checkpoint.config, self.checkpoint.labels)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @property
    def needs(self) -> tuple[str, ...]:
        """Files that workers must see: none."""
        return ()

    @contextmanager
    def open(self) -> Iterator[TorchPredictor]:
        """The network as a predictor; torch has the threads within the block."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads or before)
        try:
            yield TorchPredictor(self.checkpoint.model, self.checkpoint.labels)
        finally:
            torch.set_num_threads(before)
