"""The judge: perfect agreement with itself, less with coarser rounding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.model.predictor import TorchPredictor
from blendmask_quantize.quantization.placement import FLAVOURS
from blendmask_quantize.quantization.ptq import Calibrated, observe_ranges
from blendmask_quantize.quantization.qat.criterion import GraphPredictor, MaskJudge, Truth, found_by
from blendmask_quantize.quantization.trace import trace_network
from tests.quantize.images import SIZE, paint, some_pictures, write_pictures
from tests.quantize.tiny import LABELS, tiny_model


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return Checkpoint(tiny_model(), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def calibrated(checkpoint: Checkpoint) -> Calibrated:
    pixels = torch.from_numpy(np.stack([paint(things) for things in some_pictures(4)]))
    traced = trace_network(checkpoint.model)
    inputs = checkpoint.model.normalise(pixels.permute(0, 3, 1, 2)).split(1)
    return Calibrated(traced, observe_ranges(traced, inputs, "max"))


@pytest.fixture(scope="module")
def truth(checkpoint: Checkpoint, calibrated: Calibrated, tmp_path_factory: pytest.TempPathFactory) -> Truth:
    folder = tmp_path_factory.mktemp("held")
    write_pictures(folder, some_pictures(4))
    predict = GraphPredictor(checkpoint, calibrated.traced, SIZE)
    return found_by(predict, [folder / f"{i}.png" for i in range(4)], LABELS)


def test_the_graph_finds_what_the_checkpoint_finds(checkpoint: Checkpoint, calibrated: Calibrated) -> None:
    picture = paint(some_pictures(1)[0])
    found = GraphPredictor(checkpoint, calibrated.traced, SIZE)(picture)
    expected = TorchPredictor(checkpoint)(picture)
    assert len(found) > 0
    count = min(len(found), len(expected), 5)
    np.testing.assert_allclose(found.boxes[:count], expected.boxes[:count], atol=1e-2)
    np.testing.assert_allclose(found.scores[:count], expected.scores[:count], atol=1e-4)


def test_it_scores_every_flavour_and_finds_the_worse_network(
    checkpoint: Checkpoint, calibrated: Calibrated, truth: Truth
) -> None:
    calls: list[None] = []
    judge = MaskJudge(checkpoint, SIZE, truth, lambda: calls.append(None))
    good = judge(calibrated)
    narrow = {name: replace(r, low=r.low / 8, high=r.high / 8) for name, r in calibrated.ranges.items()}
    bad = judge(replace(calibrated, ranges=narrow))
    assert set(good) == set(FLAVOURS)
    assert len(calls) == 2 * len(FLAVOURS) * len(truth.ids)
    for flavour in FLAVOURS:
        assert 0 <= bad[flavour] < good[flavour] <= 1
