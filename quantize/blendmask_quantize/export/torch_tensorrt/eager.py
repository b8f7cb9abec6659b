"""A graph of a bundle in eager PyTorch with half precision, for comparison with compiled engines."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blendmask_edge.bundle.tensors import Outputs, constant_inputs
from blendmask_edge.errors import ClosedError
from blendmask_edge.runtimes.tensorrt.half import half_remainder
from blendmask_quantize.export.torch_tensorrt.from_onnx import OnnxModule


class EagerSession:
    """A session of the SDK's protocol, see `blendmask_edge.runtimes.base.Session`."""

    signature = None

    def __init__(self, graph: bytes, device: str) -> None:
        self._device = device
        self._module: Any = OnnxModule(half_remainder(graph)).eval().to(device)
        count = len(self._module.examples)
        self._constant = [torch.from_numpy(array).to(device) for array in constant_inputs(0.0).values()][: count - 1]

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one preprocessed image, uint8 (1, H, W, 3)."""
        if self._module is None:
            raise ClosedError("The session is closed; load the graph again.")
        with torch.inference_mode():
            results = self._module(torch.from_numpy(image).to(self._device), *self._constant)
        return Outputs(*(result.cpu().numpy() for result in results))

    def close(self) -> None:
        """Release the module."""
        self._module = None


def load(graph: bytes, device: str) -> EagerSession:
    """Load an ONNX file of the `float` variant, with float16 in place of float32 but for boxes and scores.

    Args:
        graph: of a bundle.
        device: "cuda" or "cpu".

    Raises:
        BundleError: the graph has an operator that the exporter never writes.
    """
    return EagerSession(graph, device)
