"""Parse, build and convert a graph by TensorRT-RTX and Torch-TensorRT on a machine without a GPU.

TensorRT-RTX parses and builds ahead of time without a driver, and the converters of Torch-TensorRT fill its network if
torch.cuda is faked. This shows which layers a graph becomes, and that they are legal. Nothing runs: only a device can
show speed, accuracy, and which layers compute in INT8.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import onnx
import torch

from bench.lib.quantized_graphs import products_in_half
from blendmask_edge.runtimes.tensorrt.log import tensorrt_log
from blendmask_quantize.export.torch_tensorrt.api_family import family_of

FIRST_WITH_INT8_CONVOLUTIONS = (1, 7)
"""TensorRT-RTX 1.6 builds no convolution of quantized activations."""

LAYERS = frozenset({
    "ACTIVATION", "CAST", "CONCATENATION", "CONSTANT", "CONVOLUTION", "DEQUANTIZE", "ELEMENTWISE", "FILL", "GATHER",
    "IDENTITY", "MATRIX_MULTIPLY", "NORMALIZATION", "POOLING", "QUANTIZE", "REDUCE", "RESIZE", "SELECT", "SHUFFLE",
    "SLICE", "SQUEEZE", "TOPK", "UNARY", "UNSQUEEZE",
})  # fmt: skip
"""Types of layers that a bundle's graph may become: no plugin, no loop, no shape that follows from the data."""

_GIB = 2**30


_FIRST_WITH_FLOAT_PRODUCTS = (8, 0)


class RefusedError(Exception):
    """TensorRT-RTX or Torch-TensorRT refuses a graph; the message says why."""


@dataclass(frozen=True)
class Network:
    """A graph as a network of TensorRT-RTX.

    Attributes:
        layers: number of layers by type.
        plan_bytes: size of the engine built for `sm`; 0 where none was asked for.
        seconds: of filling the network and building, together.
        convolutions: names of the convolution layers, where the graph was parsed.
    """

    layers: Counter[str]
    plan_bytes: int
    seconds: float
    convolutions: tuple[str, ...] = ()


def rtx_version() -> tuple[int, ...]:
    """Version of the TensorRT-RTX that is imported."""
    return _numbers(importlib.import_module("tensorrt_rtx").__version__)


def onnx_counts(graph: bytes) -> Counter[str]:
    """Number of nodes of an ONNX file by operator."""
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def parse(graph: bytes, sm: str | None = None) -> Network:
    """Parse an ONNX file, and build it for a compute capability such as "8.6" if one is given.

    TensorRT-RTX, unlike TensorRT, has no float32 matrix products before SM 8.0. There, those of the graph are built in
    half.

    Raises:
        RefusedError: with the first errors of TensorRT-RTX.
    """
    trt, start = importlib.import_module("tensorrt_rtx"), time.perf_counter()
    if sm is not None and _numbers(sm) < _FIRST_WITH_FLOAT_PRODUCTS:
        graph = products_in_half(graph)
    log = tensorrt_log(trt)
    log.take()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    if not trt.OnnxParser(network, log).parse(graph):
        raise RefusedError(f"TensorRT-RTX {trt.__version__} does not parse it: {log.take()}")
    plan = b""
    if sm is not None:
        config = builder.create_builder_config()
        _aim(trt, config, sm)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise RefusedError(f"TensorRT-RTX {trt.__version__} does not build it for SM {sm}: {log.take()}")
    seconds = time.perf_counter() - start
    return Network(_layers(network), memoryview(plan).nbytes, seconds, _convolutions(network))


def convert(program: torch.export.ExportedProgram, sm: str, *, build: bool) -> Network:
    """Take a program through Torch-TensorRT as one network: lowering, converters, and the build if wanted.

    Raises:
        RefusedError: an operator has no converter, a layer is illegal, or the network cannot be built.
    """
    with pretended_gpu(sm), _refusals():
        start = time.perf_counter()
        torch_tensorrt, arguments = _compiler_of(program)
        layers, plan_bytes = _interpret(torch_tensorrt, program, arguments, sm, build)
        return Network(layers, plan_bytes, time.perf_counter() - start)


def segments(program: torch.export.ExportedProgram, sm: str) -> tuple[str, ...]:
    """Parts into which `blendmask compile` would divide a program; more than one means that torch runs some of it.

    Raises:
        RefusedError: an operator has no converter.
    """
    with pretended_gpu(sm), _refusals():
        torch_tensorrt, arguments = _compiler_of(program)
        partitioned = torch_tensorrt.dynamo.compile(program, **arguments, dryrun=True)
        return tuple(name for name, _ in partitioned.named_children())


@contextlib.contextmanager
def pretended_gpu(sm: str) -> Iterator[None]:
    """Let torch.cuda show a GPU of this compute capability; nothing can run on it."""
    major, minor = _numbers(sm)
    properties = SimpleNamespace(name="pretended", major=major, minor=minor, total_memory=8 * _GIB)
    answers = {
        "get_device_capability": (major, minor),
        "get_device_properties": properties,
        "get_device_name": properties.name,
        "current_device": 0,
        "device_count": 1,
        "mem_get_info": (8 * _GIB, 8 * _GIB),
        **dict.fromkeys(("synchronize", "set_device", "empty_cache")),
    }
    with contextlib.ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, mock.Mock(return_value=answer)))
        yield


class _Filled(BaseException):
    """The network is complete, and no engine is wanted; no `except Exception` may take this for a failure."""


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Torch's own errors and TensorRT's share no base narrower than this."""
    try:
        yield
    except Exception as error:
        raise RefusedError(f"Torch-TensorRT refuses it: {error}") from error


def _compiler_of(program: torch.export.ExportedProgram) -> tuple[Any, dict[str, Any]]:
    """Torch-TensorRT, and what `blendmask compile` says to it of a quantized program."""
    torch_tensorrt = importlib.import_module("torch_tensorrt")
    arguments = family_of(torch_tensorrt.__version__).arguments("int8")
    return torch_tensorrt, {**arguments, "arg_inputs": list(program.example_inputs[0])}


def _interpret(
    torch_tensorrt: Any, program: Any, arguments: dict[str, Any], sm: str, build: bool
) -> tuple[Counter[str], int]:
    """Layers of the network that the converters fill, and the size of its plan."""
    interpreter = importlib.import_module("torch_tensorrt.dynamo.conversion._TRTInterpreter")
    trt, counts, plan = interpreter.trt, [], b""
    original = interpreter.TRTInterpreter._populate_trt_builder_config

    def aimed(self: Any, *rest: Any, **more: Any) -> Any:
        config = original(self, *rest, **more)
        _aim(trt, config, sm)
        counts.append(_layers(self.ctx.net))
        if not build:
            raise _Filled
        return config

    with (
        mock.patch.object(interpreter.TRTInterpreter, "_populate_trt_builder_config", aimed),
        mock.patch.object(interpreter, "trt", _WithoutRuntime(trt)),
        contextlib.suppress(_Filled),
    ):
        plan = torch_tensorrt.dynamo.convert_exported_program_to_serialized_trt_engine(program, **arguments)
    (layers,) = counts
    return layers, len(plan)


class _WithoutRuntime:
    """TensorRT-RTX, but for the runtime, which wants a driver: it gives the plan back as it is."""

    def __init__(self, trt: Any) -> None:
        self._trt = trt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trt, name)

    class Runtime:
        """Takes any plan for an engine."""

        def __init__(self, _logger: Any) -> None:
            pass

        def deserialize_cuda_engine(self, plan: Any) -> Any:
            """An engine with what the interpreter asks of it."""
            return SimpleNamespace(serialize=lambda: plan, get_aliased_input_tensor=lambda _: None)


def _aim(trt: Any, config: Any, sm: str) -> None:
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, "SM" + sm.replace(".", "")), 0)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _layers(network: Any) -> Counter[str]:
    return Counter(network.get_layer(number).type.name for number in range(network.num_layers))


def _convolutions(network: Any) -> tuple[str, ...]:
    layers = (network.get_layer(number) for number in range(network.num_layers))
    return tuple(layer.name for layer in layers if layer.type.name == "CONVOLUTION")
