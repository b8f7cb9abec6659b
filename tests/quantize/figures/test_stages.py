"""What the figure shows is what the network predicts by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from blendmask_quantize.checkpoints.checkpoint import Checkpoint
from blendmask_quantize.figures.stages import Stages, run_stages
from blendmask_quantize.model.predictor import TorchPredictor
from tests.quantize.small_networks import ASSEMBLER, CLIPPED, DEEPLAB, WEIGHTED_SUM, image
from tests.quantize.tiny import LABELS, TINY, tiny_model

CONFIGS = (TINY, CLIPPED, DEEPLAB, WEIGHTED_SUM, ASSEMBLER, replace(TINY, resolution=20, attention_size=5))
IMAGE = image(3, (128, 160))[0]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda config: f"{config.name}-{config.resolution}")
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return Checkpoint(tiny_model(request.param), LABELS, Path("tiny.safetensors"))


@pytest.fixture(scope="module")
def stages(checkpoint: Checkpoint) -> Stages:
    return run_stages(checkpoint, IMAGE)


def test_the_instances_are_those_that_are_predicted(checkpoint, stages):
    expected = TorchPredictor(checkpoint.model, checkpoint.labels)(IMAGE)
    assert len(stages.instances) == len(expected) > 10
    for part in ("boxes", "scores", "class_ids"):
        np.testing.assert_array_equal(getattr(stages.instances, part), getattr(expected, part))
    np.testing.assert_allclose(stages.instances.mask_logits, expected.mask_logits, rtol=1e-4, atol=1e-4)


def test_attention_is_shared_out_over_the_bases(checkpoint, stages):
    config = checkpoint.config
    count, side = config.bases.count, config.resolution
    assert stages.attention.shape == (len(stages.instances), count, side, side)
    np.testing.assert_allclose(stages.attention.sum(axis=1), 1, atol=1e-5)
    assert stages.attention.min() >= 0


def test_bases_show_the_image_without_the_padding(checkpoint, stages):
    """128 x 160 pixels become 64 x 80, padded to 64 x 96."""
    assert stages.bases.shape == (checkpoint.config.bases.count, 16, 20)
    with torch.no_grad():
        x = checkpoint.model.normalize(torch.zeros(1, 3, 64, 96))
        assert checkpoint.model(x).bases.shape[-2:] == (16, 24)


def test_the_surest_instances_are_chosen(stages):
    scores = stages.instances.scores
    chosen = stages.best(5, 0.0)
    np.testing.assert_array_equal(chosen.instances.scores, scores[:5])
    np.testing.assert_array_equal(chosen.attention, stages.attention[:5])
    threshold = float(scores[2])
    assert len(stages.best(5, threshold).instances) == (scores[:5] >= threshold).sum()
    assert len(stages.best(5, 1.0).instances) == len(stages.best(0, 0.0).attention) == 0
