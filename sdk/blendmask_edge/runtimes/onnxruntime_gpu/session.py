"""A graph in ONNX Runtime whose inputs and outputs keep their memory on the device from load to close."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional

import numpy as np
import onnxruntime as ort

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import ClosedError, InferenceError
from blendmask_edge.hardware.cuda import FREE_MEMORY, next_step
from blendmask_edge.runtimes.base import Signature, TensorType
from blendmask_edge.runtimes.contract import signature_of
from blendmask_edge.runtimes.onnxruntime import tensor_types

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions


class BoundSession:
    """A loaded graph with one buffer a tensor; a run copies the image there and the outputs back, nothing else."""

    def __init__(self, session: Any, options: SessionOptions, device: str = "cuda") -> None:
        """Allocate and bind a buffer for each input and output.

        Args:
            session: an `onnxruntime.InferenceSession`.
            options: for the inputs that are the same for each image; they are copied once.
            device: where the buffers lie, by ONNX Runtime's name.

        Raises:
            InferenceError: the names are not of the contract, a shape is dynamic, or device memory is short.
        """
        self.signature = signature_of(tensor_types(session.get_inputs()), tensor_types(session.get_outputs()))
        types = _fixed(self.signature)
        self._session: Optional[Any] = session
        self._binding = session.io_binding()
        try:
            self._values = {name: _allocate(types[name], device) for name in types}
            for name in self.signature.inputs:
                self._binding.bind_ortvalue_input(name, self._values[name])
            for name in OUTPUT_NAMES:
                self._binding.bind_ortvalue_output(name, self._values[name])
            for name, array in options.constant_inputs(self.signature.inputs).items():
                self._values[name].update_inplace(array)
        except Exception as error:  # its exceptions share no base narrower than this
            raise InferenceError(
                f"ONNX Runtime {ort.__version__} cannot allocate the tensors on {device}: {error}. {FREE_MEMORY}"
            ) from error

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one preprocessed image; see `Session.run`."""
        if self._session is None:
            raise ClosedError("The session is closed; load the graph again.")
        wanted, actual = self.signature.inputs[INPUT_NAME], TensorType(str(image.dtype), image.shape)
        if actual != wanted:
            raise InferenceError(f"The image is {actual}, the graph takes {wanted}. Preprocess it for this bundle.")
        try:
            self._values[INPUT_NAME].update_inplace(np.ascontiguousarray(image))
            self._session.run_with_iobinding(self._binding)
            return Outputs(*(self._values[name].numpy().copy() for name in OUTPUT_NAMES))
        except Exception as error:  # its exceptions share no base narrower than this
            raise InferenceError(
                f"ONNX Runtime {ort.__version__} failed to run the graph: {error}. {next_step(str(error))}"
            ) from error

    def close(self) -> None:
        """Release the buffers, then the session; closing twice does no harm."""
        self._binding = None
        self._values = {}
        self._session = None


def _fixed(signature: Signature) -> Dict[str, TensorType]:
    types = {**signature.inputs, **{name: signature.outputs[name] for name in OUTPUT_NAMES}}
    for name, tensor in types.items():
        if not all(tensor.shape):
            raise InferenceError(
                f"The graph has {name} as {tensor}; device memory is allocated once, which takes fixed shapes. "
                'Name the variant "float" or "tensorrt".'
            )
    return types


def _allocate(tensor: TensorType, device: str) -> Any:
    shape = [int(size or 0) for size in tensor.shape]
    return ort.OrtValue.ortvalue_from_shape_and_type(shape, np.dtype(tensor.dtype).type, device, 0)
