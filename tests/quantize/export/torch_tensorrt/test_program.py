"""What Torch-TensorRT is told and given, without it; tests/targets has the real converters."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from blendmask_edge.errors import DependencyError, InferenceError
from blendmask_quantize.export.torch_tensorrt import program as torch_program
from blendmask_quantize.export.torch_tensorrt.from_network import ExplicitNetwork
from blendmask_quantize.export.torch_tensorrt.program import (
    compile_exported,
    compile_program,
    export_here,
    export_program,
    from_bytes,
    to_bytes,
)
from blendmask_quantize.export.torch_tensorrt.quantize_op import define_quantize_op
from blendmask_quantize.export.torch_tensorrt.rounding import round_to_steps
from tests.quantize.export.conftest import Export
from tests.quantize.tiny import TINY


def test_modelopt_that_is_missing_is_told_with_the_extra(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    define_quantize_op.cache_clear()
    monkeypatch.setitem(sys.modules, "modelopt.torch.quantization", None)
    with pytest.raises(DependencyError, match=r"nvidia-modelopt .*pip install .*\[torch-tensorrt\]"):
        export_program(export(TINY, "tensorrt").model.SerializeToString())


class Dynamo:
    """Stands for `torch_tensorrt.dynamo`: keeps what it is given, and fails if told to."""

    def __init__(self, failure: str = "") -> None:
        self.failure, self.arguments, self.program = failure, {}, None

    def compile(
        self, program: Any, *, arg_inputs: Any, require_full_compilation: bool, min_block_size: int, **rest: Any
    ) -> Any:
        if self.failure:
            raise RuntimeError(self.failure)
        self.program = program
        self.arguments = {
            "arg_inputs": arg_inputs, "require_full_compilation": require_full_compilation,
            "min_block_size": min_block_size, **rest,
        }  # fmt: skip
        return "compiled"


def stand_in(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand in for Torch-TensorRT."""

    def save(compiled: str, path: str, output_format: str, arg_inputs: Any) -> None:
        assert output_format == "exported_program"
        assert [tuple(tensor.shape) for tensor in arg_inputs] == [(1, 64, 96, 3), (1,)]
        Path(path).write_bytes(compiled.encode())

    module = types.SimpleNamespace(__version__="2.14.0", dynamo=Dynamo(), save=save)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    monkeypatch.setattr(torch_program, "define_quantize_op", lambda: None)
    monkeypatch.setattr(torch_program, "quantize", round_to_steps)
    return module


@pytest.fixture
def torch_tensorrt(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """What stands in for Torch-TensorRT."""
    return stand_in(monkeypatch)


@pytest.fixture(scope="module")
def in_half(export: Export) -> bytes:
    """What `export_here` gives for the release of `torch_tensorrt`."""
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch)
        return export_here(export(TINY, "tensorrt").graph)


class Scaled(nn.Module):
    """A short program with what a network has: weights, and ranges that forward makes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, image: torch.Tensor, threshold: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image * self.weight + torch.arange(3), threshold


@pytest.fixture(scope="module")
def short() -> bytes:
    """The program of `Scaled`, in the form of `in_half`."""
    examples = (torch.zeros((1, 64, 96, 3), dtype=torch.uint8), torch.zeros(1))
    return to_bytes(torch.export.export(Scaled(), examples))


def test_the_whole_graph_is_compiled_and_returned(export: Export, torch_tensorrt: types.SimpleNamespace) -> None:
    case = export(TINY, "float")
    assert compile_program(case.model.SerializeToString(), "fp32", None, "cpu") == b"compiled"
    given = torch_tensorrt.dynamo
    image, threshold = given.arguments.pop("arg_inputs")
    assert (image.dtype, image.shape) == (torch.uint8, case.image.shape)
    assert (threshold.dtype, threshold.shape) == (torch.float32, (1,))
    assert given.arguments == {"require_full_compilation": True, "min_block_size": 1}
    assert isinstance(given.program, torch.export.ExportedProgram)


def test_what_torch_tensorrt_refuses_is_one_message(short: bytes, torch_tensorrt: types.SimpleNamespace) -> None:
    torch_tensorrt.dynamo = Dynamo("no converter for aten.fancy")
    message = (
        r"Torch-TensorRT 2\.14\.0 cannot compile the graph: no converter for aten\.fancy\. Take --runtime tensorrt"
    )
    with pytest.raises(InferenceError, match=message):
        compile_exported(short, None, "cpu")


def test_argument_that_a_release_would_swallow_is_refused(short: bytes, torch_tensorrt: types.SimpleNamespace) -> None:
    torch_tensorrt.__version__ = "2.9.0"  # this one takes flags, of which the stand-in knows nothing
    with pytest.raises(InferenceError, match=r"Torch-TensorRT 2\.9\.0 does not know the argument enabled_precisions"):
        compile_exported(short, None, "cpu")


@pytest.mark.slow
def test_the_network_is_compiled_straight_from_torch(
    export: Export, in_half: bytes, torch_tensorrt: types.SimpleNamespace
) -> None:
    """The compiler is given the network with half around what is quantized, since this release has no flag."""
    case = export(TINY, "tensorrt")
    assert compile_exported(in_half, None, "cpu") == b"compiled"
    given = torch_tensorrt.dynamo
    inputs = given.arguments.pop("arg_inputs")
    assert given.arguments == {"require_full_compilation": True, "min_block_size": 1}
    assert [(tensor.dtype, tuple(tensor.shape)) for tensor in inputs] == [
        (torch.uint8, case.image.shape), (torch.float32, (1,)),
    ]  # fmt: skip
    expected = ExplicitNetwork(case.graph, round_to_steps, half=True)
    image = torch.from_numpy(case.image)
    with torch.no_grad():
        for ours, theirs in zip(given.program.module()(image, inputs[1]), expected(image, inputs[1]), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert torch.float16 in {constant.dtype for constant in given.program.state_dict.values()} | {
        node.meta["val"].dtype for node in given.program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)
    }


@pytest.mark.slow
def test_a_release_with_flags_gets_the_network_in_float32(
    export: Export, torch_tensorrt: types.SimpleNamespace
) -> None:
    torch_tensorrt.__version__ = "2.8.0"
    program = from_bytes(export_here(export(TINY, "tensorrt").graph))
    dtypes = {node.meta["val"].dtype for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)}
    assert torch.float16 not in dtypes


@pytest.mark.parametrize("name", ["short", pytest.param("in_half", marks=pytest.mark.slow)])
def test_every_tensor_of_the_program_lies_on_the_device_that_it_is_compiled_for(
    name: str, request: pytest.FixtureRequest, torch_tensorrt: types.SimpleNamespace
) -> None:
    """`meta` stands for a GPU: constants that forward makes, such as ranges, must go there, too."""
    compile_exported(request.getfixturevalue(name), None, "meta")
    program = torch_tensorrt.dynamo.program
    tensors = [*program.state_dict.values(), *program.constants.values()]
    tensors += [node.meta["val"] for node in program.graph.nodes if isinstance(node.meta.get("val"), torch.Tensor)]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    named = [node.kwargs["device"] for node in program.graph.nodes if "device" in node.kwargs]
    assert {torch.device(device).type for device in named} == {"meta"}
