"""2:4 sparsity: of four weights to neighboring input channels, two are zero, which GPUs from Ampere on skip.

The pattern is that of TensorRT's sparse convolutions (Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PATTERN = "2:4"
GROUP, NONZERO = 4, 2


def can_be_sparse(layer: nn.Module) -> bool:
    """Whether a layer is a convolution whose input channels come in groups of four."""
    return isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.in_channels % GROUP == 0


def sparse_mask(weight: Tensor) -> Tensor:
    """Return which weights stay: the two largest of each group of four.

    Args:
        weight: (K, C, kh, kw), C a multiple of four.

    Returns:
        bool, of the same shape.
    """
    grouped = weight.detach().abs().unflatten(1, (-1, GROUP))
    largest = grouped.topk(NONZERO, dim=2).indices
    return torch.zeros_like(grouped, dtype=torch.bool).scatter_(2, largest, True).flatten(1, 2)


def is_sparse(layer: nn.Module) -> bool:
    """Whether all groups of four weights of a convolution have at least two zeros."""
    if not can_be_sparse(layer):
        return False
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return bool(((weight != 0).unflatten(1, (-1, GROUP)).sum(dim=2) <= NONZERO).all())


def sparse_layers(network: nn.Module) -> list[str]:
    """Return the names of the sparse convolutions of a network."""
    return [name for name, layer in network.named_modules() if is_sparse(layer)]


def keep_zeros(network: nn.Module) -> None:
    """Let training change only the weights of sparse convolutions that are not zero now."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and is_sparse(layer) and layer.weight.requires_grad:
            weight = layer.weight
            mask = weight.detach() != 0
            weight.register_hook(lambda gradient, mask=mask: gradient * mask.to(gradient.device))
