"""The operators that the exporter writes, in torch, as ONNX opset 17 defines them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_edge.errors import BundleError

_DTYPES: dict[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
}


@dataclass(frozen=True)
class Operator:
    """One operator.

    Attributes:
        function: takes the inputs by place and the attributes by name.
        known: places of inputs that are numbers known beforehand, if the graph knows them.
        fixed: attributes that `function` does not take, because it knows this one value of each only.
    """

    function: Callable[..., Any]
    known: tuple[int, ...] = ()
    fixed: Mapping[str, Any] | None = None

    def bind(self, attributes: Mapping[str, Any]) -> Callable[..., Any]:
        """The function with attributes in place.

        Raises:
            BundleError: an attribute has a value that the exporter never writes.
        """
        fixed = self.fixed or {}
        for name, value in attributes.items():
            if fixed.get(name, value) != value:
                raise BundleError(f"the graph has {name}={value!r}, as no bundle of this version: build it again")
        return functools.partial(self.function, **{k: v for k, v in attributes.items() if k not in fixed})


def _cast(x: Tensor, to: int) -> Tensor:
    return x.to(_DTYPES[to])


def _clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return torch.clamp(x, low, high)


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, pads: list[int], strides: list[int],
    dilations: list[int], group: int, kernel_shape: list[int],
) -> Tensor:  # fmt: skip
    assert kernel_shape == list(weight.shape[2:])
    x, padding = _padded(x, pads)
    return F.conv2d(x, weight, bias, strides, padding, dilations, group)


def _expand(x: Tensor, shape: list[int]) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, shape))


def _gather(x: Tensor, indices: Tensor | list[Any] | int, axis: int) -> Tensor:
    if isinstance(indices, int):
        return x.select(axis, indices)
    locations = torch.as_tensor(indices, device=x.device)
    return x.index_select(axis, locations.flatten()).unflatten(axis, locations.shape)


def _gather_planes(x: Tensor, indices: list[list[int]]) -> Tensor:
    return torch.stack([x[tuple(index)] for index in indices])


def _gemm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def _instance_norm(x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float) -> Tensor:
    return F.group_norm(x, x.shape[1], scale, bias, epsilon)


def _max_pool(x: Tensor, *, kernel_shape: list[int], strides: list[int], pads: list[int]) -> Tensor:
    return F.max_pool2d(x, kernel_shape, strides, _same_at_both_sides(pads))


def _reduce_max(x: Tensor, *, axes: list[int], keepdims: int) -> Tensor:
    return torch.amax(x, axes, keepdim=bool(keepdims))


def _reduce_sum(x: Tensor, axes: list[int], *, keepdims: int) -> Tensor:
    return torch.sum(x, axes, keepdim=bool(keepdims))


def _reshape(x: Tensor, shape: list[int], *, allowzero: int = 0) -> Tensor:
    return x.reshape([x.shape[i] if side == 0 and not allowzero else side for i, side in enumerate(shape)])


def _resize(
    x: Tensor, _roi: None, scales: list[float] | None, sizes: list[int] | None = None, *, mode: bytes,
    coordinate_transformation_mode: bytes,
) -> Tensor:  # fmt: skip
    if (mode, coordinate_transformation_mode) not in ((b"nearest", b"asymmetric"), (b"linear", b"half_pixel")):
        raise BundleError(f"the graph resizes by {mode!r}, {coordinate_transformation_mode!r}: build the bundle again")
    if sizes is None:
        sizes = [round(side * scale) for side, scale in zip(x.shape, scales or [], strict=True)]
    how = {"mode": "nearest"} if mode == b"nearest" else {"mode": "bilinear", "align_corners": False}
    return F.interpolate(x, size=sizes[2:], **how)


def _slice(x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int] | None = None) -> Tensor:
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(axes), strict=True):
        x = torch.ops.aten.slice(x, axis, start, end, step)
    return x


def _squeeze(x: Tensor, axes: list[int]) -> Tensor:
    return torch.squeeze(x, axes)


def _top_k(x: Tensor, k: list[int], *, axis: int, largest: int) -> tuple[Tensor, Tensor]:
    if x.ndim == 1:  # TensorRT's TopK takes no vector
        values, indices = torch.topk(x[None], k[0], 1, bool(largest))
        return values[0], indices[0]
    values, indices = torch.topk(x, k[0], axis, bool(largest))
    return values, indices


def _trilu(x: Tensor, diagonal: int) -> Tensor:
    return torch.triu(x, diagonal)


def _unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    for axis in sorted(axes):
        x = x.unsqueeze(axis)
    return x


def _padded(x: Tensor, pads: list[int]) -> tuple[Tensor, list[int]]:
    """`x` and its padding of height and width; where the sides differ, padded already."""
    top, left, bottom, right = pads
    if (top, left) == (bottom, right):
        return x, [top, left]
    return F.pad(x, [left, right, top, bottom]), [0, 0]


def _same_at_both_sides(pads: list[int]) -> list[int]:
    top, left, bottom, right = pads
    if (top, left) != (bottom, right):
        raise BundleError(f"the graph pools with pads {pads}, more at one side: build the bundle again")
    return [top, left]


_RESIZE = {"nearest_mode": b"floor", "cubic_coeff_a": -0.75, "exclude_outside": 0, "extrapolation_value": 0.0}
_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}
_POOL = {"auto_pad": b"NOTSET", "ceil_mode": 0, "dilations": [1, 1], "storage_order": 0}

OPERATORS = {
    "Abs": Operator(torch.abs),
    "Add": Operator(torch.add),
    "And": Operator(torch.logical_and),
    "Cast": Operator(_cast),
    "CastLike": Operator(lambda x, like: x.to(like.dtype)),
    "Clip": Operator(_clip, known=(1, 2)),
    "Concat": Operator(_concat),
    "Conv": Operator(_conv, fixed={"auto_pad": b"NOTSET"}),
    "Div": Operator(torch.div),
    "Equal": Operator(torch.eq),
    "Exp": Operator(torch.exp),
    "Expand": Operator(_expand, known=(1,)),
    "Gather": Operator(_gather, known=(1,)),
    "GatherND": Operator(_gather_planes, known=(1,), fixed={"batch_dims": 0}),
    "Gemm": Operator(_gemm, fixed=_GEMM),
    "GlobalAveragePool": Operator(lambda x: x.mean((2, 3), keepdim=True)),
    "Greater": Operator(torch.gt),
    "GreaterOrEqual": Operator(torch.ge),
    "InstanceNormalization": Operator(_instance_norm),
    "LessOrEqual": Operator(torch.le),
    "MatMul": Operator(torch.matmul),
    "Max": Operator(torch.maximum),
    "MaxPool": Operator(_max_pool, fixed=_POOL),
    "Min": Operator(torch.minimum),
    "Mul": Operator(torch.mul),
    "ReduceMax": Operator(_reduce_max),
    "ReduceSum": Operator(_reduce_sum, known=(1,), fixed={"noop_with_empty_axes": 0}),
    "Relu": Operator(torch.relu),
    "Reshape": Operator(_reshape, known=(1,)),
    "Resize": Operator(_resize, known=(2, 3), fixed=_RESIZE),
    "Sigmoid": Operator(torch.sigmoid),
    "Slice": Operator(_slice, known=(1, 2, 3, 4)),
    "Sqrt": Operator(torch.sqrt),
    "Squeeze": Operator(_squeeze, known=(1,)),
    "Sub": Operator(torch.sub),
    "Tile": Operator(torch.tile, known=(1,)),
    "TopK": Operator(_top_k, known=(1,), fixed={"sorted": 1}),
    "Transpose": Operator(lambda x, perm: x.permute(perm)),
    "Trilu": Operator(_trilu, known=(1,), fixed={"upper": 1}),
    "Unsqueeze": Operator(_unsqueeze, known=(1,)),
    "Where": Operator(torch.where),
}
"""By their ONNX names."""
