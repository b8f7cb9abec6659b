"""The question put to a preflight check, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional, Tuple, cast, get_args

from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.architectures import Precision
from blendmask_edge.hardware.facts import Mark
from blendmask_edge.runtimes.tensorrt.versions import Version

RUNTIME_TITLES = {
    "tensorrt": "TensorRT",
    "torch_tensorrt": "Torch-TensorRT",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check: a precision, and a runtime and TensorRT version where they are not the target's own.

    precision: "int8", "fp16" or "fp32".
    tensorrt: a version with at least two numbers, "10.3"; None takes the target's.
    runtime: a key of `RUNTIME_TITLES`, as in `blendmask_edge.runtimes`; None takes TensorRT on a GPU and ONNX Runtime
        on a CPU.
    """

    precision: Precision = "int8"
    tensorrt: Optional[str] = None
    runtime: Optional[str] = None


def as_precision(text: str) -> Precision:
    """Read a precision.

    Raises:
        ConfigError: it is none.
    """
    if text not in get_args(Precision):
        raise ConfigError(f"Unknown precision {text!r}; known: {', '.join(get_args(Precision))}.")
    return cast(Precision, text)


def as_options(precision: str, tensorrt: Optional[str], runtime: Optional[str]) -> CheckOptions:
    """Read options as typed; see `CheckOptions`. A runtime may be written with "-".

    Raises:
        ConfigError: an unknown precision or runtime, or a TensorRT version that is none or too vague.
    """
    name = runtime.replace("-", "_") if runtime is not None else None
    if name is not None and name not in RUNTIME_TITLES:
        raise ConfigError(f"Unknown runtime {runtime!r}; known: {', '.join(RUNTIME_TITLES)}.")
    if tensorrt is not None:
        Version.parse_exact(tensorrt)
    return CheckOptions(as_precision(precision), tensorrt, name)


@dataclass(frozen=True)
class Reason:
    """One finding of a check.

    kind: "refusal" makes the answer no, "caution" should be known before the start, "ground" speaks for it.
    needs: change to the bundle that removes the refusal, when it is built again; None where only another way helps.
    """

    kind: Literal["ground", "caution", "refusal"]
    text: str
    source: str
    mark: Mark
    needs: Optional[str] = None


@dataclass(frozen=True)
class Route:
    """One way to run a bundle on a target.

    variant: the graph of the bundle that is taken, None where the runtime takes none.
    tensorrt, torch_tensorrt: versions, None where the way has none.
    needs: what the bundle lacks for this way; empty if it can be taken at once.
    """

    runtime: str
    precision: Precision
    variant: Optional[str]
    tensorrt: Optional[str]
    torch_tensorrt: Optional[str] = None
    needs: Tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the way in words, without its needs."""
        version = self.torch_tensorrt if self.runtime == "torch_tensorrt" else self.tensorrt
        words = f"{self.precision.upper()} by {RUNTIME_TITLES[self.runtime]}" + (f" {version}" if version else "")
        is_pair = self.runtime == "torch_tensorrt" and self.tensorrt is not None
        return words + (f" with TensorRT {self.tensorrt}" if is_pair else "")


@dataclass(frozen=True)
class CheckResult:
    """The answer of a check.

    target, title: name of the target, for commands and for people.
    asked: the way that was asked for.   ok: whether it is open.
    reasons: all that was found, refusals first.
    route: the way to take: `asked` if it is open, else the best way of the target; None if there is none.
    meanwhile: a way that is open at once, where `route` first needs the bundle to be built again.
    """

    target: str
    title: str
    asked: Route
    ok: bool
    reasons: Tuple[Reason, ...]
    route: Optional[Route]
    meanwhile: Optional[Route] = None
