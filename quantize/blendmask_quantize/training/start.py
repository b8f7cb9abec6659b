"""The network a training run starts from."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from blendmask_edge.labels import Labels
from blendmask_quantize.checkpoints.adelaidet_yaml import find_config, is_yaml
from blendmask_quantize.checkpoints.checkpoint import Checkpoint, TrainingRun, load_checkpoint
from blendmask_quantize.checkpoints.files import read_state
from blendmask_quantize.checkpoints.recognition import with_class_count
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.training.backbone_file import find_backbone_weights
from blendmask_quantize.training.backbone_weights import load_backbone
from blendmask_quantize.training.classes import describe, with_classes
from blendmask_quantize.training.options import DEFAULT_CONFIG

AnyConfig = str | Path | ModelConfig | None

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a network to train comes from.

    Attributes:
        earlier: the runs that trained it, oldest first.
        weights: file name of its checkpoint; empty without one.
        initialized: classes whose rows of the predictor are random, although there is a checkpoint.
    """

    earlier: tuple[TrainingRun, ...] = ()
    weights: str = ""
    initialized: tuple[str, ...] = ()


NEW = Origin()
"""No checkpoint."""


def new_network(config: ModelConfig, seed: int) -> BlendMask:
    """Build a network of random weights, on an ImageNet backbone where there is one.

    Args:
        config: what to build.
        seed: of the random weights.

    Raises:
        DependencyError: the backbone's weights are not installed.
        CheckpointError: they are damaged.
    """
    torch.manual_seed(seed)
    model = BlendMask(config)
    if config.backbone.kind == "lite0":
        load_backbone(model, find_backbone_weights())
    return model


def starting_network(
    config: AnyConfig, weights: str | Path | Checkpoint | None, labels: Labels, seed: int
) -> tuple[BlendMask, Origin]:
    """Build or load the network that a run on data with these classes starts from.

    It is that of a checkpoint, whatever its classes (see `with_classes`; what happens to them is logged), else a new
    one.

    Args:
        config: a configuration, its name, or a YAML file; None takes the checkpoint's own, else `DEFAULT_CONFIG`.
        weights: a checkpoint, or its path.
        labels: classes of the data.
        seed: of random weights.

    Raises:
        CheckpointError: the checkpoint cannot be read, or does not fit the configuration.
        ConfigError: there is no such configuration.
        DependencyError: the backbone's weights are not installed.
    """
    if weights is None:
        wanted = replace(find_config(config or DEFAULT_CONFIG), num_classes=len(labels.names))
        return new_network(wanted, seed), NEW
    checkpoint = weights if isinstance(weights, Checkpoint) else _load(Path(weights), config)
    transfer = with_classes(checkpoint, labels, seed)
    said = describe(transfer, str(checkpoint.path))
    if said:
        _LOG.warning("%s", said)
    return transfer.model, Origin(checkpoint.training, checkpoint.path.name, transfer.initialized)


def _load(path: Path, config: AnyConfig) -> Checkpoint:
    """The checkpoint with its own classes, of which a YAML file or a configuration may state another number."""
    if config is not None and (isinstance(config, ModelConfig) or is_yaml(config)):
        config = with_class_count(find_config(config), read_state(path)[0])
    return load_checkpoint(path, config)
