"""OpenVINO on the CPU."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional

import openvino as ov

from blendmask_edge.bundle.graph import INPUT_NAME, OUTPUT_NAMES, Outputs
from blendmask_edge.errors import ClosedError, InferenceError
from blendmask_edge.runtimes.contract import check_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.runtimes.protocol import SessionOptions


def load(graph: bytes, options: SessionOptions) -> OpenVinoSession:
    """Load an ONNX graph on the CPU plugin, for the latency of one picture; see `Runtime.load`."""
    try:
        core = ov.Core()
        model = core.read_model(io.BytesIO(graph))
        check_names(_names(model.inputs), _names(model.outputs))
        compiled = core.compile_model(model, "CPU", _properties(options))
        return OpenVinoSession(compiled.create_infer_request())
    except RuntimeError as error:
        raise InferenceError(
            f"OpenVINO {ov.__version__} refuses the graph: {_reason(error)}. Upgrade it, or build the bundle again."
        ) from error


class OpenVinoSession:
    """A graph loaded in OpenVINO."""

    def __init__(self, request: Any) -> None:
        """Take an `openvino.InferRequest` of a model whose inputs and outputs have been checked."""
        self._request: Optional[Any] = request

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one prepared picture; see `Session.run`."""
        if self._request is None:
            raise ClosedError("The session is closed; load the graph again.")
        try:
            results = self._request.infer({INPUT_NAME: image}, share_inputs=True)
            return Outputs(*(results[name] for name in OUTPUT_NAMES))
        except RuntimeError as error:
            raise InferenceError(f"OpenVINO {ov.__version__} failed to run the graph: {_reason(error)}") from error

    def close(self) -> None:
        """Release the request and, with it, the compiled model."""
        self._request = None


def _properties(options: SessionOptions) -> Dict[str, Any]:
    # Where the processor has bfloat16 instructions, OpenVINO would by default compute the float remainder in them.
    properties = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if options.threads is not None:
        return {**properties, "INFERENCE_NUM_THREADS": options.threads}
    return properties


def _names(ports: Iterable[Any]) -> List[str]:
    return [name for port in ports for name in port.get_names()]


def _reason(error: RuntimeError) -> str:
    """Join the lines that say something; the others name the places in OpenVINO that the error passed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("Exception from")) or str(error)
