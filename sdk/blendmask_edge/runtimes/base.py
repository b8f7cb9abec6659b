"""The runtime protocol: one module with a `load` function, and the session that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Collection, Dict, Mapping, NamedTuple, Optional, Protocol, Tuple

from blendmask_edge.arguments.values import is_integer
from blendmask_edge.bundle.tensors import constant_inputs
from blendmask_edge.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from blendmask_edge.bundle.tensors import Outputs

MAX_THREADS = 256


@dataclass(frozen=True)
class SessionOptions:
    """Options that every runtime takes.

    threads: threads used within one operator on the CPU, 1 to `MAX_THREADS`; None leaves the choice to the runtime.
    score_threshold: least final score of a row, 0 to 1; a graph with this input spends no work on others.
    """

    threads: Optional[int] = None
    score_threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check the range.

        Raises:
            ConfigError: threads is not an integer, or out of range.
        """
        if self.threads is None:
            return
        if not is_integer(self.threads, 1, MAX_THREADS):
            raise ConfigError(
                f"threads is {self.threads!r}, expected an integer from 1 to {MAX_THREADS}; leave it out to let the "
                "runtime choose."
            )

    def constant_inputs(self, names: Collection[str]) -> Dict[str, NDArray[Any]]:
        """Return the arrays that are the same for each image, by name.

        Args:
            names: inputs of the graph; those of older bundles have no threshold.
        """
        return {name: array for name, array in constant_inputs(self.score_threshold).items() if name in names}


class TensorType(NamedTuple):
    """Type of a tensor: dtype by its NumPy name, and shape with None where a dimension is dynamic."""

    dtype: str
    shape: Tuple[Optional[int], ...]

    def __str__(self) -> str:
        """Return the type as it stands in messages: float32 [1, ?, 4]."""
        return f"{self.dtype} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"


class Signature(NamedTuple):
    """Inputs and outputs of a loaded graph, by name."""

    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]


class Session(Protocol):
    """A loaded graph. `SharedSession` makes it safe for several threads; by itself it need not be."""

    @property
    def signature(self) -> Optional[Signature]:
        """Inputs and outputs as the runtime sees them; None where it tells nothing before a run."""
        ...

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run the graph on one preprocessed image; the arrays returned are not written again by later runs.

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
            InferenceError: the runtime refuses the graph.
            RuntimeUnavailableError: the runtime finds no device, or one that lacks a feature the graph needs.
        """
        ...
