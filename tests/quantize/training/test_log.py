"""What a run writes beside its weights."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from blendmask_edge.errors import DependencyError
from blendmask_quantize.training.log import TensorBoardLog


class TestTensorBoard:
    def test_without_it_the_message_says_what_to_do(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(DependencyError, match="pip install tensorboard, or leave --tensorboard out"):
            TensorBoardLog(tmp_path, 0)

    def test_every_loss_is_a_scalar(self, monkeypatch, tmp_path):
        written = []
        writer = SimpleNamespace(add_scalar=lambda *values: written.append(values), flush=lambda: None)
        module = ModuleType("torch.utils.tensorboard")
        module.SummaryWriter = lambda folder, purge_step: written.append((folder, purge_step)) or writer
        monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
        TensorBoardLog(tmp_path, 5).write(7, {"loss_mask": 0.5, "total": 1.5})
        assert written == [(str(tmp_path), 5), ("train/loss_mask", 0.5, 7), ("train/total", 1.5, 7)]
