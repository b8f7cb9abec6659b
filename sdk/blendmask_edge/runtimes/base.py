"""What a runtime is: one module with a `load` function, and the session that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.tensors import Outputs


@dataclass(frozen=True)
class SessionOptions:
    """What a user may ask of every runtime.

    threads: threads used within one operator on the CPU; None leaves the choice to the runtime.
    """

    threads: Optional[int] = None


class Session(Protocol):
    """A loaded graph. Not for use by several threads at a time."""

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one prepared image.

        Args:
            image: uint8 [1, H, W, 3], RGB.

        Raises:
            InferenceError: the runtime failed, or the image has another size than the graph's input.
            ClosedError: the session was closed.
        """
        ...

    def close(self) -> None:
        """Release what the session holds; closing twice does no harm."""
        ...


class Runtime(Protocol):
    """A module of this package that can run graphs."""

    def load(self, graph: bytes, options: SessionOptions) -> Session:
        """Load an ONNX graph of the deployable contract.

        Raises:
            InferenceError: the runtime refuses the graph, or its inputs and outputs are not those of the contract.
            RuntimeUnavailableError: the runtime finds no device, or a device without what the graph needs.
        """
        ...
