"""Quantize graphs for structural checks: ranges from a few images, accuracy not measured."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, shape_inference

from bench.lib.scenes import CALIBRATION, CHECKPOINT
from blendmask_edge import read_image
from blendmask_edge.imaging import preprocess
from blendmask_quantize import load_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import export_onnx
from blendmask_quantize.model.blendmask import BlendMask
from blendmask_quantize.model.config import get_config
from blendmask_quantize.model.macs import padded_test_size
from blendmask_quantize.model.predictor import pad_value
from blendmask_quantize.quantization.ptq import observe_ranges, render
from blendmask_quantize.quantization.trace import trace_network

RT_R_50 = "RT_R_50_4x_bn-head_syncbn_shtw"
DLA_34 = "DLA_34_syncbn_4x"
SMALL_SIZE = (256, 352)
_IMAGES = 3


def shipped_network() -> DeployableGraph:
    """The shipped checkpoint, quantized for TensorRT, at its own size."""
    model = load_checkpoint(CHECKPOINT).model
    return quantized_network(model, padded_test_size(model.config.input))


def rt_r_50_network() -> DeployableGraph:
    """RT_R_50 with seeded random weights, small so that it is quickly built."""
    return random_network(RT_R_50)


def dla_34_network() -> DeployableGraph:
    """DLA-34 with seeded random weights, small so that it is quickly built."""
    return random_network(DLA_34)


def random_network(config: str) -> DeployableGraph:
    """A configuration with seeded random weights, quantized for TensorRT."""
    torch.manual_seed(0)
    return quantized_network(BlendMask(get_config(config)).eval(), SMALL_SIZE)


def shipped_graph() -> bytes:
    """The `tensorrt` graph of the shipped checkpoint, at its own size."""
    return as_onnx(shipped_network())


def quantized_network(model: BlendMask, size: tuple[int, int]) -> DeployableGraph:
    """A network quantized for TensorRT, calibrated on a few shipped images."""
    traced = trace_network(model)
    paths = sorted(CALIBRATION.glob("*.jpg"))[:_IMAGES]
    inputs = [_network_input(model, read_image(path), size) for path in paths]
    network = render(traced, observe_ranges(traced, inputs, "max"), "tensorrt")
    return DeployableGraph(model, network, size, Bounds()).eval()


def as_onnx(network: DeployableGraph) -> bytes:
    """The graph that a bundle would carry."""
    return bytes(export_onnx(network).SerializeToString())


def products_in_half(graph: bytes) -> bytes:
    """Return a graph whose matrix products take and give float16, between casts where they do not yet."""
    model = onnx.load_from_string(graph)
    inferred = shape_inference.infer_shapes(model).graph.value_info
    half = {value.name for value in inferred if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        is_product = node.op_type in ("MatMul", "Gemm") and node.output[0] not in half
        nodes += _in_half(node) if is_product else [node]
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:], model.graph.value_info[:]
    model.graph.node.extend(kept)
    return bytes(model.SerializeToString())


def _in_half(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    (output,) = node.output
    inputs = [f"{output}/half_{place}" for place in range(len(node.input))]
    half = onnx.NodeProto()
    half.CopyFrom(node)
    half.input[:], half.output[:] = inputs, [f"{output}/half"]
    casts = [
        helper.make_node("Cast", [name], [cast], to=TensorProto.FLOAT16)
        for name, cast in zip(node.input, inputs, strict=True)
    ]
    return [*casts, half, helper.make_node("Cast", [f"{output}/half"], [output], to=TensorProto.FLOAT)]


def _network_input(model: BlendMask, image: NDArray[np.uint8], size: tuple[int, int]) -> torch.Tensor:
    prepared = preprocess(image, size, pad_value(model.config.input))
    return model.normalize(torch.from_numpy(prepared.image).permute(0, 3, 1, 2))
