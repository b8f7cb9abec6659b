"""The verdict: a fault planted in one part of a network is told by its name, and a sound network passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from blendmask_calibration import Finding, Limit, refusals
from blendmask_calibration.estimators import Range
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.validation.clipping import clipped_shares, most_clipped
from blendmask_quantize.validation.fidelity import Fidelity, compare_instances
from blendmask_quantize.validation.fidelity_limits import FidelityLimits, check_fidelity
from blendmask_quantize.validation.network_predictor import NetworkPredictor
from tests.quantize.images import SIZE, paint, some_images
from tests.quantize.tiny import DEEP, LABELS, tiny_model

IMAGES = [paint(things) for things in some_images(6)]
SOUND = Fidelity(16, matched=100, missed=2, spurious=1, score_drift=0.01, box_iou=0.96, mask_iou=0.94, mask_iou_low=0.7)


def predictor(checkpoint: Checkpoint, network: nn.Module) -> NetworkPredictor:
    graph = DeployableGraph(checkpoint.model, network, SIZE, Bounds())
    return NetworkPredictor(graph, checkpoint.labels, pad_value(checkpoint.config.input))


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(DEEP), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def inputs(checkpoint: Checkpoint) -> list[torch.Tensor]:
    return [checkpoint.model.normalize(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)) for pixels in IMAGES]


@pytest.fixture(scope="module")
def calibrated(checkpoint: Checkpoint, inputs: list[torch.Tensor]) -> Calibrated:
    traced = trace_network(checkpoint.model)
    return Calibrated(traced, observe_ranges(traced, inputs[:4], "max"))


@pytest.fixture(scope="module")
def criterion(checkpoint: Checkpoint, calibrated: Calibrated) -> Callable[[Checkpoint, Calibrated], list[Finding]]:
    """Findings about a network made from weights and ranges, against the float network."""
    images = IMAGES[4:]
    expected = [predictor(checkpoint, calibrated.traced)(image) for image in images]

    def findings(changed: Checkpoint, ranges: Calibrated) -> list[Finding]:
        predict = predictor(changed, ranges.render("cpu"))
        return check_fidelity({"cpu": compare_instances(zip(expected, map(predict, images), strict=True))})

    return findings


def narrowed(calibrated: Calibrated, part: str, times: float) -> Calibrated:
    """Ranges of one part that are too small."""
    scaled = {
        name: Range(found.low / times, found.high / times) if part in name else found
        for name, found in calibrated.ranges.items()
    }
    return replace(calibrated, ranges=scaled)


def with_predictor(calibrated: Calibrated, name: str, change: Callable[[nn.Conv2d], None]) -> Calibrated:
    """The same ranges with one predictor of the head changed, on every level."""
    network = trace_network(tiny_model(DEEP))
    for path, module in network.named_modules():
        if name in path and isinstance(module, nn.Conv2d):
            change(module)
    return replace(calibrated, traced=network)


def test_sound_quantization_passes(
    checkpoint: Checkpoint, calibrated: Calibrated, criterion: Callable[[Checkpoint, Calibrated], list[Finding]]
) -> None:
    assert refusals(criterion(checkpoint, calibrated)) == []


def test_bases_with_ranges_far_too_small_are_refused_for_their_masks_alone(
    checkpoint: Checkpoint, calibrated: Calibrated, criterion: Callable[[Checkpoint, Calibrated], list[Finding]]
) -> None:
    (refused,) = refusals(criterion(checkpoint, narrowed(calibrated, "basis_module", 20)))
    assert refused.code == "broken-masks"
    assert "whatever the scores say" in refused.message
    assert str(refused).endswith("--allow broken-masks.")
    assert refusals([refused], allow=["broken-masks"]) == []


def test_spoiled_coefficients_are_refused_for_their_masks_alone(
    calibrated: Calibrated, criterion: Callable[[Checkpoint, Calibrated], list[Finding]]
) -> None:
    spoiled = tiny_model(DEEP)
    assert spoiled.top_layer is not None
    nn.init.normal_(spoiled.top_layer.weight, generator=torch.Generator().manual_seed(1))
    refused = refusals(criterion(Checkpoint(spoiled, LABELS, Path("tiny.safetensors")), calibrated))
    assert [finding.code for finding in refused] == ["broken-masks"]


def test_spoiled_scores_are_told_from_broken_masks(
    checkpoint: Checkpoint, calibrated: Calibrated, criterion: Callable[[Checkpoint, Calibrated], list[Finding]]
) -> None:
    def lower(conv: nn.Conv2d) -> None:
        with torch.no_grad():
            conv.bias -= 0.8

    refused = refusals(criterion(checkpoint, with_predictor(calibrated, "cls_logits", lower)))
    assert {finding.code for finding in refused} & {"shifted-scores", "missed-instances"}
    assert "broken-masks" not in {finding.code for finding in refused}


@pytest.mark.parametrize(
    "change, code, severity",
    [
        ({"mask_iou": 0.84}, "broken-masks", "warn"),
        ({"mask_iou": 0.74}, "broken-masks", "refuse"),
        ({"mask_iou_low": 0.1}, "broken-masks", "warn"),
        ({"score_drift": 0.06}, "shifted-scores", "warn"),
        ({"score_drift": 0.11}, "shifted-scores", "refuse"),
        ({"matched": 88, "missed": 12}, "missed-instances", "warn"),
        ({"matched": 60, "missed": 40}, "missed-instances", "refuse"),
        ({"matched": 0, "missed": 40, "mask_iou": float("nan")}, "missed-instances", "refuse"),
        ({"spurious": 40}, "spurious-instances", "refuse"),
        ({"matched": 0, "missed": 0}, "nothing-compared", "warn"),
    ],
)
def test_each_measured_value_has_its_limit(change: dict[str, float], code: str, severity: str) -> None:
    assert check_fidelity({"cpu": SOUND}) == []
    (finding,) = check_fidelity({"cpu": SOUND, "tensorrt": replace(SOUND, **change)})
    assert (finding.code, finding.severity) == (code, severity)
    assert finding.message.startswith("tensorrt: ")


def test_limits_are_values() -> None:
    strict = FidelityLimits(mask_iou=Limit(warn=0.99, refuse=0.95))
    (finding,) = check_fidelity({"cpu": SOUND}, strict)
    assert (finding.severity, finding.measured, finding.limit) == ("refuse", 0.94, 0.95)


def test_the_tensor_with_the_narrowest_range_is_clipped_most_and_named_by_its_layer(
    calibrated: Calibrated, inputs: list[torch.Tensor]
) -> None:
    assert set(clipped_shares(calibrated, inputs[:4]).values()) == {0}, "ranges that hold every value clip nothing"
    narrow = narrowed(calibrated, "basis_module_tower_0_2", 20)
    shares = clipped_shares(narrow, inputs[:1])
    worst = most_clipped(narrow, shares)
    assert list(worst) == ["basis_module.tower.0.2"]
    assert worst["basis_module.tower.0.2"] == shares["basis_module_tower_0_2"] > 0.1
