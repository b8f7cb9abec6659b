"""Options and results of a check."""

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
    "onnxruntime-cuda": "ONNX Runtime with CUDA",
    "onnxruntime-tensorrt": "ONNX Runtime with TensorRT",
    "openvino": "OpenVINO",
}


@dataclass(frozen=True)
class CheckOptions:
    """Options of a check.

    Attributes:
        precision: "int8", "fp16" or "fp32".
        tensorrt: version with at least two numbers, such as "10.3"; None takes that of the device.
        runtime: key of `RUNTIME_TITLES`; None takes TensorRT on a GPU and ONNX Runtime on a CPU.
    """

    precision: Precision = "int8"
    tensorrt: Optional[str] = None
    runtime: Optional[str] = None


def as_precision(text: str) -> Precision:
    """Return a precision by name.

    Raises:
        ConfigError: the name is unknown.
    """
    if text not in get_args(Precision):
        raise ConfigError(f"Unknown precision {text!r}; known: {', '.join(get_args(Precision))}.")
    return cast(Precision, text)


def as_options(precision: str, tensorrt: Optional[str], runtime: Optional[str]) -> CheckOptions:
    """Return options from text; see `CheckOptions`. In names of runtimes "-" and "_" are the same.

    Raises:
        ConfigError: the precision or runtime is unknown, or the TensorRT version is invalid or incomplete.
    """
    for argument, value in (("runtime", runtime), ("tensorrt", tensorrt)):
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{argument} is {value!r}, expected text; leave it out for that of the device.")
    names = {title.replace("-", "_"): title for title in RUNTIME_TITLES}
    name = names.get(runtime.replace("-", "_")) if runtime is not None else None
    if runtime is not None and name is None:
        raise ConfigError(f"Unknown runtime {runtime!r}; known: {', '.join(RUNTIME_TITLES)}.")
    if tensorrt is not None:
        Version.parse_exact(tensorrt)
    return CheckOptions(as_precision(precision), tensorrt, name)


@dataclass(frozen=True)
class Reason:
    """One reason of a check.

    Attributes:
        kind: "refusal" (cannot run), "caution" (can run, with a known problem) or "ground" (supports the answer).
        text: the reason.
        source: where the fact comes from.
        mark: evidence: "verified", "documented" or "unverified".
        needs: what a new bundle must contain to remove the refusal; None if only another route helps.
    """

    kind: Literal["ground", "caution", "refusal"]
    text: str
    source: str
    mark: Mark
    needs: Optional[str] = None


@dataclass(frozen=True)
class Route:
    """A way to run a bundle on a device.

    Attributes:
        runtime: name of the runtime.
        precision: "int8", "fp16" or "fp32".
        variant: graph of the bundle; None if the runtime has none for this precision.
        tensorrt: version of TensorRT, or None.
        torch_tensorrt: version of Torch-TensorRT, or None.
        needs: what the bundle lacks for this route; empty if it works at once.
    """

    runtime: str
    precision: Precision
    variant: Optional[str]
    tensorrt: Optional[str]
    torch_tensorrt: Optional[str] = None
    needs: Tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe the route, without `needs`."""
        version = self.torch_tensorrt if self.runtime == "torch_tensorrt" else self.tensorrt
        words = f"{self.precision.upper()} by {RUNTIME_TITLES[self.runtime]}" + (f" {version}" if version else "")
        is_pair = self.runtime == "torch_tensorrt" and self.tensorrt is not None
        return words + (f" with TensorRT {self.tensorrt}" if is_pair else "")


@dataclass(frozen=True)
class CheckResult:
    """Result of a check.

    Attributes:
        target: name of the device in commands.
        title: name of the device in text.
        requested: the route that was checked.
        ok: whether it works.
        reasons: reasons, refusals first.
        route: `requested` if it works, else the best route of the device; None if there is none.
        meanwhile: a route that works with this bundle, if `route` needs a new one.
    """

    target: str
    title: str
    requested: Route
    ok: bool
    reasons: Tuple[Reason, ...]
    route: Optional[Route]
    meanwhile: Optional[Route] = None
