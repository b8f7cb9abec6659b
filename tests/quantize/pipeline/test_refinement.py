"""What refinement has reached comes back from arrays as it was, and the steps that are left come to the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from blendmask_quantize.pipeline.refinement import as_arrays, refined_of
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.refine.steps import Drift, Given, Observed, Refined, chosen_steps, refine
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import image, network_input, small_network
from tests.quantize.tiny import TINY

STEPS = chosen_steps(["cross_layer_equalization", "bias_correction"], "auto")


@pytest.fixture(scope="module")
def given() -> Given:
    model = small_network(TINY)
    return Given([network_input(model, image(seed)) for seed in range(2)], "auto")


@pytest.fixture(scope="module")
def start(given: Given) -> Observed:
    traced = trace_network(small_network(TINY))
    histograms = observe(traced, given.inputs)
    return Observed(Calibrated(traced, estimate(traced, histograms, given.first_estimator)), histograms, traced)


@pytest.fixture(scope="module")
def states(start: Observed, given: Given) -> list[Refined]:
    """After each step; all are kept."""
    reached: list[Refined] = []
    refine(Refined(start), STEPS, given, falling(1.0), reached.append)
    return reached


def falling(first: float) -> Any:
    """A criterion that every step satisfies."""
    values = iter(np.linspace(first, 0, 9))
    return lambda _: Drift(float(next(values)), 0.0, 0.0)


def weights(calibrated: Calibrated) -> Mapping[str, torch.Tensor]:
    return calibrated.render("cpu").state_dict()


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_each_state_comes_back_as_it_was(start: Observed, states: list[Refined]) -> None:
    assert len(states) == len(STEPS) == 3
    for state in states:
        back = refined_of(start, as_arrays(state, start.reference))
        assert back.outcomes == state.outcomes
        assert same(weights(back.observed.calibrated), weights(state.observed.calibrated))
        assert same(back.observed.reference.state_dict(), state.observed.reference.state_dict())
        assert back.observed.histograms.keys() == state.observed.histograms.keys()


@pytest.mark.slow
def test_the_steps_that_are_left_come_to_the_same(start: Observed, states: list[Refined], given: Given) -> None:
    back = refined_of(start, as_arrays(states[0], start.reference))
    assert back.drift == states[0].drift
    finished, again = (refine(state, STEPS, given, falling(0.5), lambda _: None) for state in (back, states[0]))
    assert [outcome.kept for outcome in finished.outcomes] == [True, True, True]
    assert not same(weights(finished.observed.calibrated), weights(back.observed.calibrated))
    assert same(weights(finished.observed.calibrated), weights(again.observed.calibrated))


def test_only_what_the_steps_changed_is_stored(start: Observed) -> None:
    stored = as_arrays(Refined(start), start.reference)
    assert not [name for name in stored if name.startswith(("weights/", "reference/"))]
