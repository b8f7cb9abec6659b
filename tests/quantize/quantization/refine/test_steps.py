"""Steps are taken in order, and of each is kept only what measurably helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from blendmask_edge.errors import ConfigError
from blendmask_quantize.pipeline.recipe_names import RECIPES
from blendmask_quantize.quantization.ptq import Calibrated, estimate, observe
from blendmask_quantize.quantization.refine.adaround import AdaRound
from blendmask_quantize.quantization.refine.rounding import Sampling
from blendmask_quantize.quantization.refine.steps import (
    BY_TENSOR,
    MASK_TOLERANCE,
    RANGES,
    STEPS,
    Criterion,
    Drift,
    Given,
    Observed,
    Refined,
    chosen_steps,
    refine,
)
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.small_networks import image, network_input, small_network
from tests.quantize.tiny import TINY

QUICK, FEW = AdaRound(iterations=10), Sampling(patches=128)
NAMES = ("cross_layer_equalization", "coordinate_descent", "adaround", "bias_correction")


@pytest.fixture(scope="module")
def given() -> Given:
    model = small_network(TINY)
    return Given([network_input(model, image(seed)) for seed in range(2)], "auto", QUICK, sampling=FEW)


@pytest.fixture(scope="module")
def start(given: Given) -> Observed:
    traced = trace_network(small_network(TINY))
    histograms = observe(traced, given.inputs)
    return Observed(Calibrated(traced, estimate(traced, histograms, given.first_estimator)), histograms, traced)


def saying(*totals: float | None) -> tuple[Criterion, list[Calibrated]]:
    """A criterion that says these drifts one after the other, and what it was shown."""
    said: Iterator[float | None] = iter(totals)
    seen: list[Calibrated] = []

    def criterion(calibrated: Calibrated) -> Drift | None:
        seen.append(calibrated)
        total = next(said)
        return None if total is None else Drift(total, 0.0, 0.0)

    return criterion, seen


def quiet(_state: Refined) -> None:
    pass


@pytest.mark.slow
def test_what_does_not_help_is_left_out_and_the_next_step_starts_without_it(start: Observed, given: Given) -> None:
    criterion, seen = saying(0.4, 0.5, 0.3, 0.35)
    steps = chosen_steps(["bias_correction", "cross_layer_equalization"], "auto")
    refined = refine(Refined(start), steps, given, criterion, quiet)
    result, outcomes = refined.observed.calibrated, refined.outcomes
    assert [(outcome.name, outcome.kept) for outcome in outcomes] == [
        ("cross_layer_equalization", False), (RANGES, True), ("bias_correction", False),
    ]  # fmt: skip
    assert result is seen[2]
    weights = result.traced.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in start.calibrated.traced.state_dict().items())
    assert [outcome.before.total for outcome in outcomes if outcome.before] == [0.4, 0.4, 0.3]
    assert "does not help" in str(outcomes[0])
    assert "is kept" in str(outcomes[1])


@pytest.mark.slow
def test_every_step_together_keeps_weights_and_ranges_of_one_network(start: Observed, given: Given) -> None:
    criterion, _ = saying(0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
    refined = refine(Refined(start), chosen_steps(NAMES, "auto"), given, criterion, quiet)
    result, outcomes = refined.observed.calibrated, refined.outcomes
    assert [outcome.name for outcome in outcomes] == list(STEPS)
    assert all(outcome.kept for outcome in outcomes)
    x = given.inputs[0]
    with torch.no_grad():
        expected, rendered = start.reference(x).bases, result.render("cpu")(x).bases
    assert (rendered - expected).abs().mean() < 0.1 * expected.std()
    ranges = next(outcome for outcome in outcomes if outcome.name == RANGES)
    assert sum(ranges.details["estimators"].values()) == len(result.ranges)
    assert set(ranges.details[BY_TENSOR]) == set(result.ranges)
    assert BY_TENSOR not in ranges.record()


def test_without_steps_nothing_is_measured(start: Observed, given: Given) -> None:
    state = Refined(start)
    assert refine(state, [], given, lambda _: pytest.fail("measured"), quiet) is state


@pytest.mark.slow
def test_steps_that_were_taken_are_neither_taken_nor_measured_again(start: Observed, given: Given) -> None:
    steps = chosen_steps(["bias_correction", "cross_layer_equalization"], "mse")
    reached: list[Refined] = []
    refine(Refined(start), steps, given, saying(0.4, 0.5, 0.3)[0], reached.append)
    assert [len(state.outcomes) for state in reached] == [1, 2]
    criterion, seen = saying(0.3)
    refined = refine(reached[0], steps, given, criterion, quiet)
    assert len(seen) == 1
    assert [(outcome.name, outcome.kept) for outcome in refined.outcomes] == [
        ("cross_layer_equalization", False), ("bias_correction", True),
    ]  # fmt: skip
    assert refined.outcomes[1].before == Drift(0.4, 0.0, 0.0)
    assert refine(refined, steps, given, lambda _: pytest.fail("measured"), quiet) is refined


def test_without_an_instance_to_compare_no_step_is_kept(start: Observed, given: Given) -> None:
    criterion, _ = saying(None)
    refined = refine(Refined(start), chosen_steps(["bias_correction"], "mse"), given, criterion, quiet)
    (outcome,) = refined.outcomes
    assert refined.observed is start
    assert not outcome.kept
    assert "show no instance" in str(outcome)


def test_better_boxes_do_not_pay_for_worse_masks() -> None:
    before = Drift(masks=0.04, boxes=0.04, scores=0.01)
    assert replace(before, boxes=0.03).improves(before)
    assert replace(before, boxes=0.03, masks=0.04 + MASK_TOLERANCE / 2).improves(before)
    assert not replace(before, boxes=0.01, masks=0.05).improves(before)
    assert not before.improves(before)


def test_steps_are_found_by_name_and_taken_in_their_own_order() -> None:
    assert [step.name for step in chosen_steps(NAMES[::-1], "mse")] == list(NAMES)
    assert [step.name for step in chosen_steps([], "auto")] == [RANGES]
    with pytest.raises(ConfigError, match="no step is called 'bais': did you mean bias"):
        chosen_steps(["bais"], "mse")
    with pytest.raises(
        ConfigError, match="known are cross_layer_equalization, coordinate_descent, adaround, bias_correction"
    ):
        chosen_steps([RANGES], "mse")


def test_every_recipe_names_steps_that_there_are() -> None:
    for recipe in RECIPES.values():
        assert [step.name for step in chosen_steps(recipe.steps, "mse")] == list(recipe.steps)


def test_large_images_are_looked_at_in_smaller_numbers() -> None:
    small, large = torch.zeros(1, 3, 96, 128), torch.zeros(1, 3, 1024, 1024)
    assert len(Given([small] * 40, "mse").few) == 16
    assert len(Given([large] * 40, "mse").few) == 2
    assert len(Given([small] * 3, "mse").few) == 3
