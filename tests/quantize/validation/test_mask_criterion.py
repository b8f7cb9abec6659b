"""The criterion: perfect agreement with itself, less with coarser rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_edge.evaluation.annotations import AnnotatedImages
from blendmask_edge.evaluation.bootstrap import Matches
from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.model.predictor import TorchPredictor, pad_value
from blendmask_quantize.quantization.placement import VARIANTS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.qat.data import pseudo_labeled
from blendmask_quantize.quantization.trace import trace_network
from blendmask_quantize.validation.mask_criterion import MaskCriterion
from blendmask_quantize.validation.network_predictor import NetworkPredictor, PredictorOf
from tests.quantize.images import SIZE, paint, some_images, write_images
from tests.quantize.tiny import DEEP, LABELS, tiny_model


def predictor_of(checkpoint: Checkpoint, detections: int = 100) -> PredictorOf:
    bounds, pad = Bounds(detections=detections), pad_value(checkpoint.config.input)
    return lambda network: NetworkPredictor(
        DeployableGraph(checkpoint.model, network, SIZE, bounds), checkpoint.labels, pad
    )


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(DEEP), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def calibrated(checkpoint: Checkpoint) -> Calibrated:
    pixels = torch.from_numpy(np.stack([paint(things) for things in some_images(4)]))
    traced = trace_network(checkpoint.model)
    inputs = checkpoint.model.normalize(pixels.permute(0, 3, 1, 2)).split(1)
    return Calibrated(traced, observe_ranges(traced, inputs, "max"))


@pytest.fixture(scope="module")
def held_out(
    checkpoint: Checkpoint, calibrated: Calibrated, tmp_path_factory: pytest.TempPathFactory
) -> AnnotatedImages:
    folder = tmp_path_factory.mktemp("held")
    write_images(folder, some_images(4))
    predict = predictor_of(checkpoint)(calibrated.traced)
    return pseudo_labeled(predict, [folder / f"{i}.png" for i in range(4)], LABELS)


def test_the_graph_finds_what_the_checkpoint_finds(checkpoint: Checkpoint, calibrated: Calibrated) -> None:
    image = paint(some_images(1)[0])
    predicted = predictor_of(checkpoint)(calibrated.traced)(image)
    expected = TorchPredictor(checkpoint.model, checkpoint.labels)(image)
    assert len(predicted) > 0
    count = min(len(predicted), len(expected), 5)
    np.testing.assert_allclose(predicted.boxes[:count], expected.boxes[:count], atol=1e-2)
    np.testing.assert_allclose(predicted.scores[:count], expected.scores[:count], atol=1e-4)


def mask_aps(matches: dict[str, Matches]) -> dict[str, float]:
    return {variant: predicted.metrics(np.ones(4, np.int64))["mask_ap"] for variant, predicted in matches.items()}


@pytest.mark.slow
def test_it_scores_every_variant_and_finds_the_worse_network(
    checkpoint: Checkpoint, calibrated: Calibrated, held_out: AnnotatedImages
) -> None:
    calls: list[None] = []
    criterion = MaskCriterion(predictor_of(checkpoint), held_out, lambda: calls.append(None))
    good = mask_aps(criterion(calibrated))
    narrow = {name: replace(r, low=r.low / 8, high=r.high / 8) for name, r in calibrated.ranges.items()}
    bad = mask_aps(criterion(replace(calibrated, ranges=narrow)))
    assert set(good) == set(VARIANTS)
    assert len(calls) == 2 * len(VARIANTS) * len(held_out.ids)
    for variant in VARIANTS:
        assert 0 <= bad[variant] < good[variant] <= 1
