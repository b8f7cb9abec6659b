"""ONNX Runtime's CUDA provider: every layer in float32, a quantized graph as float layers that round between them.

No GPU has run it yet; that it refuses where it cannot start is tested with the real package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from blendmask_edge.hardware.cuda import first_gpu
from blendmask_edge.runtimes.onnxruntime_gpu.provider import CUDA, open_on_gpu
from blendmask_edge.runtimes.onnxruntime_gpu.session import BoundSession

if TYPE_CHECKING:
    from blendmask_edge.runtimes.base import SessionOptions

CUDA_OPTIONS = {
    "device_id": "0",
    # The default doubles what it takes at each step, which a Jetson shares with everything else.
    "arena_extend_strategy": "kSameAsRequested",
    # TF32 keeps 10 bits of each factor; the accuracy in a manifest was measured with float32.
    "use_tf32": "0",
}


def load(graph: bytes, options: SessionOptions) -> BoundSession:
    """Load an ONNX graph on the CUDA provider; see `Runtime.load`. `options.threads` means nothing here.

    Raises:
        RuntimeUnavailableError: no GPU, or the provider cannot start; the message has the reason.
        InferenceError: the graph is refused, or nodes of it would run on the CPU.
    """
    return BoundSession(open_on_gpu(graph, options, first_gpu(), [(CUDA, CUDA_OPTIONS)]), options)
