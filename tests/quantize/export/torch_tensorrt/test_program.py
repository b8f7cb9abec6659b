"""What Torch-TensorRT is told and given, without it; tests/targets has the real converters."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from blendmask_edge.errors import DependencyError, InferenceError
from blendmask_quantize.export.torch_tensorrt import program as torch_program
from blendmask_quantize.export.torch_tensorrt.program import compile_arguments, compile_program, export_program
from tests.quantize.export.conftest import Export
from tests.quantize.tiny import TINY


@pytest.mark.parametrize(
    "version, precision, flags",
    [
        ("2.8.0", "int8", {torch.float32, torch.float16, torch.int8}),
        ("2.9.0+cu128", "fp32", {torch.float32}),
        ("2.10.0", "int8", None),
        ("2.14.0", "fp32", None),
    ],
)
def test_precisions_are_asked_for_only_where_that_is_heard(version: str, precision: str, flags: Any) -> None:
    arguments = compile_arguments(version, precision)
    assert arguments.get("enabled_precisions") == flags
    assert arguments["require_full_compilation"]
    assert "workspace_size" not in arguments
    assert compile_arguments(version, precision, 2**20)["workspace_size"] == 2**20


def test_modelopt_that_is_missing_is_told_with_the_extra(export: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_program.define_quantize_op.cache_clear()
    monkeypatch.setitem(sys.modules, "modelopt.torch.quantization", None)
    with pytest.raises(DependencyError, match=r"nvidia-modelopt .*pip install .*\[torch-tensorrt\]"):
        export_program(export(TINY, "tensorrt").model.SerializeToString())


class Dynamo:
    """Stands for `torch_tensorrt.dynamo`: keeps what it is given, and fails if told to."""

    def __init__(self, failure: str = "") -> None:
        self.failure, self.arguments, self.program = failure, {}, None

    def compile(self, program: Any, **arguments: Any) -> Any:
        if self.failure:
            raise RuntimeError(self.failure)
        self.program, self.arguments = program, arguments
        return "compiled"


@pytest.fixture
def torch_tensorrt(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand in for Torch-TensorRT."""

    def save(compiled: str, path: str, output_format: str, arg_inputs: Any) -> None:
        assert output_format == "exported_program"
        assert [tuple(tensor.shape) for tensor in arg_inputs] == [(1, 64, 96, 3), (1,)]
        Path(path).write_bytes(compiled.encode())

    module = types.SimpleNamespace(__version__="2.14.0", dynamo=Dynamo(), save=save)
    monkeypatch.setitem(sys.modules, "torch_tensorrt", module)
    monkeypatch.setattr(torch_program, "define_quantize_op", lambda: None)
    return module


def test_the_whole_graph_is_compiled_and_returned(export: Export, torch_tensorrt: types.SimpleNamespace) -> None:
    case = export(TINY, "float")
    assert compile_program(case.model.SerializeToString(), "fp32", None, "cpu") == b"compiled"
    given = torch_tensorrt.dynamo
    image, threshold = given.arguments.pop("arg_inputs")
    assert (image.dtype, image.shape) == (torch.uint8, case.image.shape)
    assert (threshold.dtype, threshold.shape) == (torch.float32, (1,))
    assert given.arguments == {"require_full_compilation": True, "min_block_size": 1}
    assert isinstance(given.program, torch.export.ExportedProgram)


def test_what_torch_tensorrt_refuses_is_one_message(export: Export, torch_tensorrt: types.SimpleNamespace) -> None:
    torch_tensorrt.dynamo = Dynamo("no converter for aten.fancy")
    message = (
        r"Torch-TensorRT 2\.14\.0 cannot compile the graph: no converter for aten\.fancy\. Take --runtime tensorrt"
    )
    with pytest.raises(InferenceError, match=message):
        compile_program(export(TINY, "float").model.SerializeToString(), "fp32", None, "cpu")
