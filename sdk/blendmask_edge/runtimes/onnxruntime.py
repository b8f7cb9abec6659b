"""ONNX Runtime on the CPU."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Dict, Iterable, Optional

import numpy as np
import onnxruntime as ort

from blendmask_edge.bundle.onnx_file import read_onnx_file
from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import BundleError, ClosedError, InferenceError
from blendmask_edge.hardware.cpu import saturates_int8
from blendmask_edge.runtimes.base import TensorType
from blendmask_edge.runtimes.contract import signature_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions

_FATAL_ONLY = 4
_LOG = logging.getLogger(__name__)
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}


def load(graph: bytes, options: SessionOptions) -> OnnxRuntimeSession:
    """Load an ONNX graph on the CPU provider; see `Runtime.load`."""
    try:
        session = ort.InferenceSession(graph, exact_settings(graph, options), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base narrower than this
        raise InferenceError(
            f"ONNX Runtime {ort.__version__} refuses the graph: {error}. Upgrade it, or build the bundle again."
        ) from error
    return OnnxRuntimeSession(session, options)


def exact_settings(graph: bytes, options: SessionOptions) -> Any:
    """Return the settings of a graph on the CPU, with exact INT8 sums.

    On x86 without VNNI, ONNX Runtime converts weights and zero points for its exact kernels, and fails where weights
    share a zero point, as in bundles of earlier releases. These graphs are computed in float32 there.
    """
    settings = session_settings(options)
    if saturates_int8() and _shares_zero_points(graph):
        _warn_of_float()
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    return settings


def _shares_zero_points(graph: bytes) -> bool:
    try:
        file = read_onnx_file(graph)
    except BundleError:
        return False
    constants = {constant.name for constant in file.constants}
    weights = [
        node.inputs for node in file.nodes if node.operator == "DequantizeLinear" and node.inputs[0] in constants
    ]
    zero_points = [inputs[2] for inputs in weights if len(inputs) > 2]
    return len(set(zero_points)) < len(zero_points)


@functools.lru_cache(maxsize=None)
def _warn_of_float() -> None:
    _LOG.warning(
        "ONNX Runtime %s has no exact INT8 kernels for this bundle on a processor without VNNI, and computes in "
        "float32. Build the bundle again to run it faster.",
        ort.__version__,
    )


class OnnxRuntimeSession:
    """A graph loaded in ONNX Runtime."""

    def __init__(self, session: Any, options: SessionOptions) -> None:
        """Take an `onnxruntime.InferenceSession`, and the options for its inputs.

        Raises:
            InferenceError: its inputs and outputs do not have the names of the contract.
        """
        self.signature = signature_of(tensor_types(session.get_inputs()), tensor_types(session.get_outputs()))
        self._constant = options.constant_inputs(self.signature.inputs)
        self._session: Optional[Any] = session

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one preprocessed image; see `Session.run`."""
        if self._session is None:
            raise ClosedError("The session is closed; load the graph again.")
        try:
            return Outputs(*self._session.run(OUTPUT_NAMES, {INPUT_NAME: image, **self._constant}))
        except Exception as error:  # its exceptions share no base narrower than this
            raise InferenceError(f"ONNX Runtime {ort.__version__} failed to run the graph: {error}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None


def session_settings(options: SessionOptions) -> Any:
    """Return `onnxruntime.SessionOptions` for every provider: quiet, ONNX files only, exact INT8, threads as asked."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    settings.inter_op_num_threads = 1
    # Unless told, ONNX Runtime guesses the format, and its own has been checked by nobody.
    settings.add_session_config_entry("session.load_model_format", "ONNX")
    # On x86 without VNNI its quick kernels saturate, and this takes exact ones; elsewhere it would take slower ones.
    if saturates_int8():
        settings.add_session_config_entry("session.x64quantprecision", "1")
    if options.threads is not None:
        settings.intra_op_num_threads = int(options.threads)
    return settings


def tensor_types(nodes: Iterable[Any]) -> Dict[str, TensorType]:
    """Return the types of a session's inputs or outputs, by name."""
    return {node.name: TensorType(_dtype(node.type), tuple(map(_size, node.shape))) for node in nodes}


def _dtype(text: str) -> str:
    return _DTYPES.get(text, text[len("tensor(") : -1] if text.startswith("tensor(") else text)


def _size(size: Any) -> Optional[int]:
    return size if isinstance(size, int) else None
