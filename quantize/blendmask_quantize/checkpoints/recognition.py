"""Which configuration a state dict is of, by the names and shapes of its tensors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from blendmask_edge.errors import CheckpointError
from blendmask_quantize.checkpoints.adelaidet_yaml import is_yaml
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig, get_config, list_configs

_LOG = logging.getLogger(__name__)

TRAINING_ONLY = "basis_module.seg_head."
_CLASS_SCORES = "proposal_generator.fcos_head.cls_logits.bias"

Shapes = Mapping[str, tuple[int, ...]]


def class_count(state: Mapping[str, Tensor]) -> int | None:
    """The number of classes that a state dict scores; None where it has no class scores."""
    scores = state.get(_CLASS_SCORES)
    return len(scores) if scores is not None and scores.ndim else None


def with_class_count(config: ModelConfig, state: Mapping[str, Tensor]) -> ModelConfig:
    """The configuration with as many classes as the state dict scores."""
    return replace(config, num_classes=class_count(state) or config.num_classes)


def recognize(path: Path, state: Mapping[str, Tensor]) -> ModelConfig:
    """Return the only registered configuration whose tensors match a file that does not name its own.

    Raises:
        CheckpointError: none matches, or more than one.
    """
    exact = _exact_configs(state)
    if len(exact) == 1:
        _LOG.warning("%s does not name its configuration; its tensors match %s", path, exact[0].name)
        return exact[0]
    if exact:
        names = ", ".join(config.name for config in exact)
        raise CheckpointError(
            f"{path} does not name its configuration, and its tensors match {names}: choose one, e.g. --config "
            f"{exact[0].name}"
        )
    near = _nearest_config(state)
    hint = f"it resembles {near} but does not match it" if near else "it resembles no registered one"
    raise CheckpointError(
        f"{path} does not name its configuration, and {hint}: give --config with the YAML file of its training"
    )


def _exact_configs(state: Mapping[str, Tensor]) -> list[ModelConfig]:
    """The registered configurations whose network the state dict fills, each with the state dict's classes."""
    given = shapes_of(state)
    fitted = (with_class_count(get_config(name), state) for name in list_configs())
    return [config for config in fitted if not _differences(_network_shapes(config), given)]


def _nearest_config(state: Mapping[str, Tensor]) -> str | None:
    """The registered configuration that shares most names and shapes with a state dict; None below one half."""
    given = set(shapes_of(state).items())
    shared = {name: len(given & set(_network_shapes(get_config(name)).items())) for name in list_configs()}
    best = max(shared, key=lambda name: shared[name])
    return best if 2 * shared[best] >= max(len(given), 1) else None


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {key: tuple(value.shape) for key, value in state.items()}


def check_shapes(
    path: Path, own: Shapes, state: Mapping[str, Tensor], config: ModelConfig, asked: str | Path | ModelConfig | None
) -> None:
    """See that a state dict fills the network of a configuration.

    Args:
        path: of the state dict, for the message.
        own: shapes of the tensors of the network.
        state: of the file.
        config: of the network.
        asked: what the user gave to choose it; None for nothing.

    Raises:
        CheckpointError: it does not; the message lists the differences and suggests a configuration.
    """
    problems = _differences(own, shapes_of(state))
    if problems:
        raise CheckpointError(f"{path} does not match {config.name}: {problems}. {_advice(state, config, asked)}")


def _differences(own: Shapes, given: Shapes) -> str:
    """Missing, unexpected and differently shaped tensors of a state dict for a network; empty where they match."""
    missing = [key for key in own if key not in given and not dispensable(key)]
    unexpected = [key for key in given if key not in own and not dispensable(key)]
    shapes = [f"{k} is {given[k]}, expected {own[k]}" for k in own if k in given and given[k] != own[k]]
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(keys)} {what} ({_some(keys)})" for what, keys in groups if keys)


def _advice(state: Mapping[str, Tensor], config: ModelConfig, asked: str | Path | ModelConfig | None) -> str:
    """Return advice for a state dict that does not match its configuration."""
    count, near = class_count(state), _nearest_config(state)
    given = str(asked) if is_yaml(asked) else None
    if given is not None and count not in (None, config.num_classes):
        return f"Set FCOS.NUM_CLASSES to {count} in {given}"
    if near is not None and near != config.name:
        return f"It resembles {near}: try --config {near}"
    if given is not None:
        return f"Correct {given}: it describes another network"
    if near is None:
        return "It resembles no registered configuration: give --config with the YAML file of its training"
    if count == config.num_classes:
        return "The file is incomplete or was changed: fetch it again, or give --config with the YAML of its training"
    return f"It resembles {near} with {count} classes: give --config with the YAML file of its training"


def dispensable(key: str) -> bool:
    """Whether predictions do not depend on a tensor."""
    return key.startswith(TRAINING_ONLY) or key.endswith("num_batches_tracked")


@cache
def _network_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return shapes_of(BlendMask(config).state_dict())


def _some(keys: list[str], most: int = 3) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
