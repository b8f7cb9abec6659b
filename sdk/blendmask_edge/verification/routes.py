"""The ways to run a bundle on a device that `verify-device` tries, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from blendmask_edge.hardware.architectures import Precision

BUILD, LAYERS, MEASURE, AGREEMENT, SOAK = "build", "layers", "measure", "agreement", "soak"
TORCH = "torch"
"""Eager PyTorch, which is measured for comparison and is not a runtime of the SDK."""


@dataclass(frozen=True)
class Route:
    """One way to run one graph.

    Attributes:
        name: for tables, options and files.
        runtime: name in the registry of runtimes, or `TORCH`.
        variant: graph of the bundle.
        precision: of `check` and `compile`.
        parts: what is done, in this order.
        reference: name of the route on the CPU with which detections and accuracy are compared; None for the first.
        is_on_gpu: whether it needs an NVIDIA GPU.
        compiles: whether `blendmask compile` builds it.
    """

    name: str
    runtime: str
    variant: str
    precision: Precision
    parts: Tuple[str, ...]
    reference: Optional[str] = None
    is_on_gpu: bool = False
    compiles: bool = False


_GPU_PARTS = (BUILD, MEASURE, AGREEMENT, SOAK)
ROUTES = (
    Route("cpu-int8", "onnxruntime", "cpu", "int8", (MEASURE, SOAK)),
    Route("openvino-int8", "openvino", "cpu", "int8", (MEASURE, AGREEMENT, SOAK), "cpu-int8"),
    Route("cpu-tensorrt-graph", "onnxruntime", "tensorrt", "int8", (MEASURE,)),
    Route("cpu-float", "onnxruntime", "float", "fp32", (MEASURE,)),
    Route(
        "tensorrt-int8", "tensorrt", "tensorrt", "int8", (BUILD, LAYERS, MEASURE, AGREEMENT, SOAK),
        "cpu-tensorrt-graph", is_on_gpu=True, compiles=True,
    ),
    Route("tensorrt-fp16", "tensorrt", "float", "fp16", _GPU_PARTS, "cpu-float", is_on_gpu=True, compiles=True),
    Route(
        "torch-tensorrt-int8", "torch_tensorrt", "tensorrt", "int8", _GPU_PARTS,
        "cpu-tensorrt-graph", is_on_gpu=True, compiles=True,
    ),
    Route(
        "onnxruntime-tensorrt-int8", "onnxruntime-tensorrt", "tensorrt", "int8", _GPU_PARTS,
        "cpu-tensorrt-graph", is_on_gpu=True,
    ),
    Route("onnxruntime-cuda", "onnxruntime-cuda", "float", "fp32", _GPU_PARTS, "cpu-float", is_on_gpu=True),
    Route("torch-fp16", TORCH, "float", "fp16", (MEASURE, AGREEMENT), "cpu-float", is_on_gpu=True),
)  # fmt: skip
"""References on the CPU come before what is compared with them."""


def find_route(name: str) -> Route:
    """Return the route of a name, which exists."""
    return next(route for route in ROUTES if route.name == name)
