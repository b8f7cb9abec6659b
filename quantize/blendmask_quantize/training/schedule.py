"""Optimizers and learning rates: AdamW with a cosine, or the reference's SGD with steps.

The reference's recipe is in AdelaiDet `configs/BlendMask/Base-BlendMask.yaml` and detectron2 `solver/`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from blendmask_quantize.training.options import TrainOptions

Group = dict[str, Any]

_FIRST = 1e-3  # of the rate, where the warm-up begins
_DROP = 0.1  # what each step multiplies the rate with


def parameter_groups(model: nn.Module, options: TrainOptions) -> list[Group]:
    """Group what an optimizer trains: `params`, `weight_decay`, and `factor` of the learning rate.

    The backbone has a factor of its own. Normalizations do not decay; biases do with SGD only, as in the reference.
    """
    parts: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter, in_norm in _parameters(model):
        decays = not in_norm and (parameter.ndim > 1 or options.optimizer == "sgd")
        parts.setdefault(("bottom_up" in name, decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "factor": options.backbone_rate if in_backbone else 1.0,
            "weight_decay": options.weight_decay if decays else 0.0,
        }
        for (in_backbone, decays), parameters in parts.items()
    ]


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Each trained parameter's name, itself, and whether it belongs to a normalization."""
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                yield f"{prefix}.{name}", parameter, isinstance(module, (_NormBase, nn.GroupNorm))


def make_optimizer(groups: Sequence[Group], options: TrainOptions) -> torch.optim.Optimizer:
    """Make the optimizer that the options name, over `parameter_groups`."""
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def rate_at(step: int, options: TrainOptions) -> float:
    """Return the learning rate at a step, before the groups' factors.

    A linear warm-up from a thousandth, times a cosine to zero or a tenth after each milestone.
    """
    warmup = options.warmup_steps
    done = min(1.0, step / warmup) if warmup else 1.0
    rise = _FIRST * (1 - done) + done
    if options.schedule == "steps":
        return options.learning_rate * rise * _DROP ** sum(step >= m * options.iterations for m in options.milestones)
    return options.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / options.iterations))


def set_rate(optimizer: torch.optim.Optimizer, step: int, options: TrainOptions) -> None:
    """Give every group its rate of a step."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, options) * group["factor"]
