"""The network a training run starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from blendmask_quantize.checkpoints.checkpoint import TrainingRun, load_checkpoint
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.training.backbone_weights import find_backbone_weights, load_backbone


def starting_model(config: ModelConfig, weights: Path | None, seed: int) -> tuple[BlendMask, tuple[TrainingRun, ...]]:
    """A network to train, and the runs it comes from.

    It is a checkpoint's, else has seeded random weights, on an ImageNet backbone where one is to be had.

    Args:
        config: what to build.
        weights: checkpoint to go on from.
        seed: of the random weights.

    Raises:
        CheckpointError: the checkpoint does not fit.
        DependencyError: the backbone's weights are not installed.
    """
    if weights is not None:
        checkpoint = load_checkpoint(weights, config)
        return checkpoint.model, checkpoint.training
    torch.manual_seed(seed)
    model = BlendMask(config)
    if config.backbone.kind == "lite0":
        load_backbone(model, find_backbone_weights())
    return model, ()
