"""One training step through the whole network equals the reference's: stages, losses, gradients, running statistics."""

from __future__ import annotations

from functools import cache
from typing import Callable

import numpy as np
import pytest
import torch

from tests.quantize.parity import compare
from tests.quantize.training_parity import TrainedStep, train_one_step
from tests.reference_values import recorded_cases

CASES = recorded_cases("training/forward.npz")
SINGLE, DOUBLE = torch.float32, torch.float64
NEVER_BY_ITSELF = "pos.iou"
"""A number of the reference that the losses here do not pass through."""


@pytest.fixture(scope="module")
def step(recording) -> Callable[[str, torch.dtype], TrainedStep]:
    return cache(lambda case, dtype: train_one_step(recording(case), dtype))


if not CASES:
    pytest.skip("no recorded training step is beside this checkout", allow_module_level=True)


@pytest.mark.parametrize("case", CASES)
class TestOneTrainingStep:
    @pytest.mark.slow
    @pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
    def test_every_recorded_stage_in_training_mode(self, step, recording, case, dtype):
        reference = recording(case)
        compared = [compare(reference, name, ours, dtype) for name, ours in step(case, dtype).forward.items()]
        assert {agreement.stage for agreement in compared} == reference.stages() - {NEVER_BY_ITSELF}
        assert [agreement for agreement in compared if not agreement.holds] == []

    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 1e-5), (DOUBLE, 1e-7)])
    def test_losses(self, step, recording, case, dtype, tolerance):
        done = step(case, dtype)
        wanted = recording(case).about["losses_f64"]
        assert done.losses.keys() == wanted.keys()
        for name, value in wanted.items():
            assert done.losses[name].item() == pytest.approx(value, rel=tolerance), name

    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 1e-2), (DOUBLE, 1e-6)])
    def test_gradient_norm_of_every_parameter(self, step, recording, case, dtype, tolerance):
        done = step(case, dtype)
        for name, about in recording(case).gradients.items():
            gradient = done.state[name].grad
            assert gradient is not None, name
            if about["l2"] >= 1e-8:
                assert gradient.norm().item() == pytest.approx(about["l2"], rel=tolerance), name

    def test_gradient_elements(self, step, recording, case):
        done = step(case, DOUBLE)
        for name, about in recording(case).gradients.items():
            result = done.state[name].grad.flatten()[about["idx"]]
            np.testing.assert_allclose(result, about["val"], rtol=0, atol=1e-6 * about["absmax"] + 1e-10, err_msg=name)

    def test_frozen_parameters_get_no_gradient(self, step, recording, case):
        done = step(case, SINGLE)
        frozen = recording(case).json("training/grads.json").keys() - recording(case).gradients.keys()
        assert len(frozen) == {"rt_bnhead": 0, "r50": 11}[case]
        assert all(done.state[name].grad is None for name in frozen)

    def test_no_other_parameter_is_trained(self, step, recording, case):
        done = step(case, SINGLE)
        with_gradient = {name for name, value in done.state.items() if value.grad is not None}
        assert with_gradient == recording(case).gradients.keys()

    @pytest.mark.parametrize(("dtype", "tolerance"), [(SINGLE, 5e-5), (DOUBLE, 1e-6)])
    def test_running_statistics_after_one_forward(self, step, recording, case, dtype, tolerance):
        done = step(case, dtype)
        for name, about in recording(case).json("training/bn_after.json").items():
            result = done.state[name]
            if name.endswith("num_batches_tracked"):
                assert result.item() == about["after"], name
            else:
                np.testing.assert_allclose(result[:4], about["after_first4"], rtol=tolerance, atol=1e-4, err_msg=name)
                assert result.norm().item() == pytest.approx(about["after_l2"], rel=tolerance), name
