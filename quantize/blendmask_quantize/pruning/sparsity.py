"""2:4 sparsity of a network: which convolutions get it."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from blendmask_edge.errors import ConfigError
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.patterns import Pattern
from blendmask_quantize.model.sparsity import can_be_sparse, sparse_mask
from blendmask_quantize.pruning.groups import unpruned_layers


def make_sparse(model: BlendMask, protect: Iterable[Pattern] = ()) -> list[str]:
    """Set two of four weights to zero, the smaller ones, in every convolution that may be pruned.

    Args:
        model: changed in place.
        protect: patterns of layers to leave dense; see `model.patterns.matching`.

    Returns:
        The names of the sparse convolutions.

    Raises:
        ConfigError: as `layers_to_make_sparse`.
    """
    chosen = layers_to_make_sparse(model, protect)
    with torch.no_grad():
        for name in chosen:
            weight: torch.Tensor = model.get_submodule(name).weight  # type: ignore[assignment]
            weight *= sparse_mask(weight)
    return chosen


def layers_to_make_sparse(model: BlendMask, protect: Iterable[Pattern] = ()) -> list[str]:
    """Return the names of the convolutions that `make_sparse` chooses.

    Raises:
        ConfigError: a pattern matches no convolution, or no convolution is left.
    """
    unpruned = unpruned_layers(model, protect)
    chosen = [name for name, layer in model.named_modules() if can_be_sparse(layer) and name not in unpruned]
    if not chosen:
        raise ConfigError("no convolution can have 2:4 sparsity: all are protected, or frozen. Protect fewer layers")
    return chosen
