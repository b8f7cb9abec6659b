"""`tensorrt::quantize_op`, the one operator of explicit quantization that Torch-TensorRT converts.

nvidia-modelopt brings it. It becomes a QUANTIZE and a DEQUANTIZE layer with scale amax / 127.
"""

from __future__ import annotations

import importlib
from functools import cache

import torch
from torch import Tensor

from blendmask_edge.errors import DependencyError, install_command
from blendmask_quantize.export.torch_tensorrt.rounding import round_to_steps


@cache
def define_quantize_op() -> torch.library.Library:
    """Define `tensorrt::quantize_op`, computed by torch, before Torch-TensorRT is imported.

    modelopt computes it by a CUDA extension which it compiles when first used; Torch-TensorRT calls it to look for
    constants to fold, also where there is no compiler.

    Raises:
        DependencyError: nvidia-modelopt is not installed or does not start.
    """
    try:
        importlib.import_module("modelopt.torch.quantization")
    except ImportError as error:
        raise DependencyError(
            f"nvidia-modelopt cannot be imported: {error}. Type: {install_command('torch-tensorrt')}"
        ) from error
    library = torch.library.Library("tensorrt", "IMPL")
    for device in ("CPU", "CUDA"):
        library.impl("quantize_op", _compute, device, allow_override=True)
    return library


def quantize(x: Tensor, scale: Tensor) -> Tensor:
    """Round by the operator.

    One scale must be a scalar, even of a weight with one channel; several must lie along the axis they are for.

    Args:
        x: to be rounded.
        scale: () or (C,) along axis 0.
    """
    amax = scale * 127
    amax = amax.reshape(()) if amax.numel() == 1 else amax.reshape(-1, *[1] * (x.ndim - 1))
    return torch.ops.tensorrt.quantize_op(x, amax, 8, 0, False, False)


def _compute(
    x: Tensor, amax: Tensor, num_bits: int = 8, exponent_bits: int = 0, unsigned: bool = False,
    narrow_range: bool = False,
) -> Tensor:  # fmt: skip
    assert (num_bits, exponent_bits, unsigned, narrow_range) == (8, 0, False, False)
    return round_to_steps(x, (amax if amax.ndim == 0 else amax.flatten()) / 127)
