"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import onnxruntime as ort

from blendmask_edge.bundle.tensors import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import ClosedError, InferenceError
from blendmask_edge.runtimes.contract import check_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.base import SessionOptions

_FATAL_ONLY = 4


def load(graph: bytes, options: SessionOptions) -> OnnxRuntimeSession:
    """Load an ONNX graph on the CPU provider; see `Runtime.load`."""
    settings = ort.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    settings.inter_op_num_threads = 1
    if options.threads is not None:
        settings.intra_op_num_threads = options.threads
    try:
        session = ort.InferenceSession(graph, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base narrower than this
        raise InferenceError(
            f"ONNX Runtime {ort.__version__} refuses the graph: {error}. Upgrade it, or build the bundle again."
        ) from error
    check_names([node.name for node in session.get_inputs()], [node.name for node in session.get_outputs()])
    return OnnxRuntimeSession(session)


class OnnxRuntimeSession:
    """A graph loaded in ONNX Runtime."""

    def __init__(self, session: Any) -> None:
        """Take an `onnxruntime.InferenceSession` whose inputs and outputs have been checked."""
        self._session: Optional[Any] = session

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one prepared image; see `Session.run`."""
        if self._session is None:
            raise ClosedError("The session is closed; load the graph again.")
        try:
            return Outputs(*self._session.run(OUTPUT_NAMES, {INPUT_NAME: image}))
        except Exception as error:  # its exceptions share no base narrower than this
            raise InferenceError(f"ONNX Runtime {ort.__version__} failed to run the graph: {error}") from error

    def close(self) -> None:
        """Release the session."""
        self._session = None
