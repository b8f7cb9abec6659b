"""The torch module that is read from a bundle's graph computes that graph, for each layer on the same inputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from blendmask_edge.errors import BundleError
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.torch_tensorrt.from_onnx import OnnxModule
from blendmask_quantize.export.torch_tensorrt.rounding import round_to_steps
from blendmask_quantize.model.config import ModelConfig
from blendmask_quantize.validation.gpu_arithmetic import emulated_half
from tests.quantize.export.conftest import Export
from tests.quantize.export.torch_tensorrt.fed import Fed, rows_in_order, run_onnx
from tests.quantize.small_networks import DEEPLAB, FIVE_LEVELS, FROZEN, LITE
from tests.quantize.tiny import TINY

CASES = [
    (TINY, "float"), (TINY, "tensorrt"),
    pytest.param(LITE, "tensorrt", marks=pytest.mark.slow),
    pytest.param(FROZEN, "tensorrt", marks=pytest.mark.slow),
    pytest.param(FIVE_LEVELS, "tensorrt", marks=pytest.mark.slow),
    pytest.param(DEEPLAB, "tensorrt", marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize("config, variant", CASES)
def test_the_module_computes_the_graph(config: ModelConfig, variant: str, export: Export) -> None:
    case = export(config, variant)
    expected, rounded = run_onnx(case.model, case.image)
    fed = Fed(rounded)
    module = OnnxModule(case.model.SerializeToString(), fed)
    with torch.no_grad():
        outputs = module(torch.from_numpy(case.image), torch.zeros(1))
    convs = sum(node.op_type == "DequantizeLinear" for node in case.model.graph.node) - len(rounded)
    assert (fed.used, fed.weights) == (len(rounded), convs)
    assert fed.error < 1e-3
    assert [tuple(example.shape) for example in module.examples] == [case.image.shape, (1,)]
    assert (expected[1] > 0).sum() > 10
    found = [output.numpy() for output in outputs]
    here, there = rows_in_order(found), rows_in_order(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours[0, here], theirs[0, there], rtol=1e-4, atol=1e-3)


def test_the_module_computes_a_graph_with_a_half_remainder(export: Export) -> None:
    case = export(TINY, "tensorrt")
    graph = half_remainder(case.model.SerializeToString())
    expected, rounded = run_onnx(onnx.load_from_string(emulated_half(graph)), case.image)
    with torch.no_grad():
        outputs = OnnxModule(graph, Fed(rounded))(torch.from_numpy(case.image), torch.zeros(1))
    for ours, theirs in zip(outputs, expected, strict=True):
        assert ours.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0.02, atol=0.05)


def test_rounding_is_that_of_the_standard() -> None:
    x = torch.tensor([-1e9, -0.75, -0.25, 0.0, 0.25, 0.75, 1.25, 1e9])
    steps = round_to_steps(x, torch.tensor(0.5)) / 0.5
    assert steps.tolist() == [-128, -2, 0, 0, 0, 2, 2, 127]
    channels = round_to_steps(torch.ones(2, 1, 1, 1), torch.tensor([0.75, 3.0])).flatten()
    assert channels.tolist() == [0.75, 0.0]


@pytest.mark.slow
def test_the_module_can_be_exported_by_torch(export: Export) -> None:
    case = export(TINY, "tensorrt")
    inputs = (torch.from_numpy(case.image), torch.full((1,), 0.3))
    module = OnnxModule(case.model.SerializeToString()).eval()
    program = torch.export.export(module, inputs, strict=False)
    with torch.no_grad():
        for ours, theirs in zip(program.module()(*inputs), module(*inputs), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


Change = Callable[[onnx.ModelProto], None]


def first(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def rename(kind: str, name: str) -> Change:
    return lambda model: setattr(first(model, kind), "op_type", name)


def set_attribute(kind: str, name: str, value: Any) -> Change:
    def change(model: onnx.ModelProto) -> None:
        node = first(model, kind)
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def shift_zero_point(model: onnx.ModelProto) -> None:
    name = first(model, "QuantizeLinear").input[2]
    tensor = next(entry for entry in model.graph.initializer if entry.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), name))


@pytest.mark.parametrize(
    "change, message",
    [
        (rename("Sigmoid", "Erf"), "the graph has Erf, "),
        (set_attribute("Resize", "mode", "cubic"), "resizes by b'cubic'"),
        (set_attribute("Gemm", "alpha", 2.0), "alpha=2.0"),
        (set_attribute("Conv", "auto_pad", "SAME_UPPER"), "auto_pad=b'SAME_UPPER'"),
        (shift_zero_point, "other than int8 around 0"),
    ],
)
def test_what_the_exporter_never_writes_is_refused(change: Change, message: str, export: Export) -> None:
    case = export(TINY, "tensorrt")
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    change(model)
    with pytest.raises(BundleError, match=re.escape(message)):
        OnnxModule(model.SerializeToString())(torch.from_numpy(case.image), torch.zeros(1))


def test_the_graph_for_cpus_is_refused_with_the_one_to_take(export: Export) -> None:
    with pytest.raises(BundleError, match="take the tensorrt graph"):
        OnnxModule(export(TINY, "cpu").model.SerializeToString())


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(BundleError, match=r"not an ONNX file .*build the bundle again"):
        OnnxModule(b"no graph")
