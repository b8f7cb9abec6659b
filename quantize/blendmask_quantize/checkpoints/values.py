"""The values of a checkpoint, fit to be a network's."""

from __future__ import annotations

import torch
from torch import Tensor

from blendmask_edge.errors import CheckpointError

_NEVER_NEGATIVE = "running_var"


def value_as(own: Tensor, value: Tensor, name: str) -> Tensor:
    """Return a stored tensor in the type of the network's, which it can replace.

    Args:
        own: the network's.
        value: the stored one, of the same shape.
        name: for messages.

    Raises:
        CheckpointError: the tensor is not dense, holds integers in the place of real numbers, or values that no
            trained network has: infinite, not a number, or a negative variance.
    """
    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        form = "no values" if value.is_meta else "quantized values" if value.is_quantized else "sparse values"
        raise CheckpointError(f"{name} holds {form}, expected a dense tensor: save the float network's state dict")
    if not own.is_floating_point():
        return value.to(own.dtype)
    if not value.is_floating_point():
        raise CheckpointError(f"{name} is {value.dtype}, expected floating point: save the float network's state dict")
    converted = value.to(own.dtype)
    if not converted.isfinite().all():
        raise CheckpointError(
            f"{name} holds values that are not finite: training diverged, or the file is damaged. Give an earlier one"
        )
    if name.endswith(_NEVER_NEGATIVE) and (converted < 0).any():
        raise CheckpointError(f"{name} holds negative variances: the file is damaged. Fetch it again")
    return converted
