"""One training step through the whole network equals the reference's: losses, gradients, running statistics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from blendmask_quantize.model.authors import config_from_authors
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.checkpoint import load_checkpoint
from blendmask_quantize.train.loop import freeze
from blendmask_quantize.train.losses import attention_of, training_losses

SINGLE, DOUBLE = torch.float32, torch.float64


@dataclass(frozen=True)
class TrainedStep:
    """A network after one forward and backward of the recorded batch."""

    losses: dict[str, Tensor]
    state: dict[str, Tensor]
    recorded: Any

    @property
    def trained(self) -> dict[str, dict[str, Any]]:
        """Recorded gradients of parameters that are not frozen."""
        grads = self.recorded.json("training/grads.json")
        return {name: about for name, about in grads.items() if about.get("grad", "") is not None}


@pytest.fixture(scope="module")
def step(recording, parity: Path) -> Callable[[str, torch.dtype], TrainedStep]:
    @cache
    def run(case: str, dtype: torch.dtype) -> TrainedStep:
        recorded = recording(case)
        config = config_from_authors(recorded.json("config.json"), case)
        model = load_checkpoint(recorded.case / "weights.safetensors", config).model.to(dtype).train()
        freeze(model)
        predictions = model(network_input(model, parity))
        targets = recorded.assigned()
        attention = attention_of(model.top_layer, predictions.towers, targets)
        losses = training_losses(predictions, targets, recorded.objects(), recorded.semantic(), attention)
        sum(losses.values()).backward()
        return TrainedStep(losses, model.state_dict(keep_vars=True), recorded)

    return run


def network_input(model: BlendMask, parity: Path) -> Tensor:
    """(2, 3, 288, 288): each image normalised, then padded with zeros."""
    images = np.load(parity / "training_data/images.npz")
    batch = torch.zeros((2, 3, 288, 288), dtype=model.top_layer.weight.dtype)
    for i in range(2):
        rgb = torch.from_numpy(images[f"img{i}.bgr_resized"][..., ::-1].copy()).permute(2, 0, 1)
        batch[i, :, : rgb.shape[1], : rgb.shape[2]] = model.normalise(rgb[None])[0]
    return batch


@pytest.mark.parametrize("case", ["rt_bnhead", "r50"])
class TestOneTrainingStep:
    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 1e-5), (DOUBLE, 1e-7)])
    def test_losses(self, step, case, dtype, tolerance):
        done = step(case, dtype)
        wanted = done.recorded.json("training/meta.json")["losses_f64"]
        assert done.losses.keys() == wanted.keys()
        for name, value in wanted.items():
            assert done.losses[name].item() == pytest.approx(value, rel=tolerance), name

    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 1e-2), (DOUBLE, 1e-6)])
    def test_gradient_norm_of_every_parameter(self, step, case, dtype, tolerance):
        done = step(case, dtype)
        for name, about in done.trained.items():
            gradient = done.state[name].grad
            assert gradient is not None, name
            if about["l2"] >= 1e-8:
                assert gradient.norm().item() == pytest.approx(about["l2"], rel=tolerance), name

    def test_gradient_elements(self, step, case):
        done = step(case, DOUBLE)
        for name, about in done.trained.items():
            found = done.state[name].grad.flatten()[about["idx"]]
            np.testing.assert_allclose(found, about["val"], rtol=0, atol=1e-6 * about["absmax"] + 1e-10, err_msg=name)

    def test_frozen_parameters_get_no_gradient(self, step, case):
        done = step(case, SINGLE)
        frozen = done.recorded.json("training/grads.json").keys() - done.trained.keys()
        assert len(frozen) == {"rt_bnhead": 0, "r50": 11}[case]
        assert all(done.state[name].grad is None for name in frozen)

    def test_no_other_parameter_is_trained(self, step, case):
        done = step(case, SINGLE)
        with_gradient = {name for name, value in done.state.items() if value.grad is not None}
        assert with_gradient == done.trained.keys()

    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 5e-5), (DOUBLE, 1e-6)])
    def test_running_statistics_after_one_forward(self, step, case, dtype, tolerance):
        done = step(case, dtype)
        for name, about in done.recorded.json("training/bn_after.json").items():
            found = done.state[name]
            if name.endswith("num_batches_tracked"):
                assert found.item() == about["after"], name
            else:
                np.testing.assert_allclose(found[:4], about["after_first4"], rtol=tolerance, atol=1e-4, err_msg=name)
                assert found.norm().item() == pytest.approx(about["after_l2"], rel=tolerance), name
