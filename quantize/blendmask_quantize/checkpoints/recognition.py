"""Which configuration a state dict is of, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import ModelConfig, get_config, list_configs

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


def exact_configs(state: Mapping[str, Tensor]) -> list[ModelConfig]:
    """The registered configurations whose network the state dict fills, each with the state dict's classes."""
    given = shapes_of(state)
    fitted = (with_class_count(get_config(name), state) for name in list_configs())
    return [config for config in fitted if not differences(_network_shapes(config), given)]


def nearest_config(state: Mapping[str, Tensor]) -> str | None:
    """The registered configuration that shares most names and shapes with a state dict; None below one half."""
    given = set(shapes_of(state).items())
    shared = {name: len(given & set(_network_shapes(get_config(name)).items())) for name in list_configs()}
    best = max(shared, key=lambda name: shared[name])
    return best if 2 * shared[best] >= max(len(given), 1) else None


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor."""
    return {key: tuple(value.shape) for key, value in state.items()}


def differences(own: Shapes, given: Shapes) -> str:
    """Missing, unexpected and differently shaped tensors of a state dict for a network; empty where they match."""
    missing = [key for key in own if key not in given and not dispensable(key)]
    unexpected = [key for key in given if key not in own and not dispensable(key)]
    shapes = [f"{k} is {given[k]}, expected {own[k]}" for k in own if k in given and given[k] != own[k]]
    groups = (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
    return "; ".join(f"{len(keys)} {what} ({_some(keys)})" for what, keys in groups if keys)


def dispensable(key: str) -> bool:
    """Whether predictions do not depend on a tensor."""
    return key.startswith(TRAINING_ONLY) or key.endswith("num_batches_tracked")


@cache
def _network_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return shapes_of(BlendMask(config).state_dict())


def _some(keys: list[str], most: int = 3) -> str:
    return ", ".join(keys[:most]) + (", ..." if len(keys) > most else "")
