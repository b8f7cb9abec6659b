"""Torch-TensorRT on an NVIDIA GPU: the one file of this package that needs torch.

It runs a program that `blendmask compile` made of the graph and left in the cache, see `targets/programs.py`; the graph
itself only says which. Not yet run on a device: the tests drive it with stand-ins for torch and Torch-TensorRT.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, Sequence

import numpy as np
import torch_tensorrt

from blendmask_edge.bundle.onnx_file import read_onnx_file
from blendmask_edge.bundle.tensors import Outputs
from blendmask_edge.errors import ClosedError, InferenceError, RuntimeUnavailableError
from blendmask_edge.hardware.cuda import FREE_MEMORY, find_gpu, is_out_of_memory, next_step
from blendmask_edge.runtimes.engines import program_cache, program_name
from blendmask_edge.storage.atomic import output_error
from blendmask_edge.storage.temporary import scratch_folder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions

_COMPILE = (
    "Type on this machine: blendmask compile M.bmz --target T --runtime torch_tensorrt  (or take "
    'runtime="tensorrt", which compiles the graph by itself).'
)


def load(graph: bytes, options: SessionOptions) -> TorchTensorRtSession:
    """Load the compiled program of an ONNX graph; see `Runtime.load`. `options.threads` means nothing here.

    Raises:
        RuntimeUnavailableError: no GPU, or the graph has no program in the cache.
        OutputError: there is no cache folder, or the disk of temporary files cannot be written.
        InferenceError: the program cannot be read, as after a change of torch, TensorRT or GPU.
    """
    torch, gpu = importlib.import_module("torch"), find_gpu()
    if gpu is None or not torch.cuda.is_available():
        raise RuntimeUnavailableError(
            f"torch {torch.__version__} sees no GPU, which a Torch-TensorRT program needs. Run the bundle where there "
            'is one, or with runtime="onnxruntime" or "openvino".'
        )
    cache, name = program_cache(), program_name(hashlib.sha256(graph).hexdigest(), gpu)
    program = cache.read(name)
    if program is None:
        raise RuntimeUnavailableError(
            f"No valid Torch-TensorRT program of this graph was found at {cache.path(name)}. {_COMPILE}"
        )
    constant = options.constant_inputs([entry.name for entry in read_onnx_file(graph).inputs])
    return TorchTensorRtSession(_read(program), torch, list(constant.values()))


class TorchTensorRtSession:
    """A Torch-TensorRT program, ready to be called."""

    def __init__(self, module: Any, torch: Any, constant: Sequence[NDArray[Any]]) -> None:
        """Take a callable on CUDA tensors, the torch that it belongs to, and the inputs after the image."""
        self._module: Optional[Any] = module
        self._torch = torch
        self.signature = None
        try:
            self._constant = [torch.from_numpy(array).cuda() for array in constant]
        except Exception as error:  # as in `run`
            raise _failed("to take its inputs", error) from error

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the program on one preprocessed image; see `Session.run`."""
        if self._module is None:
            raise ClosedError("The session is closed; load the graph again.")
        try:
            with self._torch.inference_mode():
                results = self._module(self._torch.from_numpy(np.ascontiguousarray(image)).cuda(), *self._constant)
                arrays = [result.cpu().numpy() for result in results]
            return Outputs(*arrays)
        except Exception as error:  # torch's own errors and TensorRT's share no base narrower than this
            raise _failed("to run", error) from error

    def close(self) -> None:
        """Release the program."""
        self._module = None


def _failed(what: str, error: Exception) -> InferenceError:
    return InferenceError(
        f"Torch-TensorRT {torch_tensorrt.__version__} failed {what}: {error}. {next_step(str(error))}"
    )


def _read(data: bytes) -> Any:
    """Load a program, which Torch-TensorRT takes from a path only."""
    with contextlib.ExitStack() as resources:
        try:
            path = resources.enter_context(scratch_folder()) / "program.ep"
            path.write_bytes(data)
        except OSError as error:
            raise output_error(Path(tempfile.gettempdir()), error) from error
        try:
            program = torch_tensorrt.load(str(path))
        except Exception as error:  # torch's own errors and TensorRT's share no base narrower than this
            advice = FREE_MEMORY if is_out_of_memory(str(error)) else _COMPILE
            raise InferenceError(
                f"Torch-TensorRT {torch_tensorrt.__version__} cannot read the program of this graph: {error}. {advice}"
            ) from error
    # An exported program is called through its module, a TorchScript program directly.
    return program.module() if hasattr(program, "module") else program
