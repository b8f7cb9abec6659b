"""The table of devices: what each can do, and which versions reach it. The data lies in `devices.json` beside this.

Every fact carries where it comes from and how far it is known: "verified" by an experiment, "documented" in public
text, "unverified" for general knowledge. Unknown facts are left out, so most fields may be None.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from typing import Dict, List, Literal, Optional, Tuple

import msgspec

from blendmask_edge.errors import ConfigError
from blendmask_edge.hardware.architectures import Architecture, Precision, load_architectures
from blendmask_edge.hardware.facts import Fact, Mark

_DATA = Path(__file__).with_name("devices.json")


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peak rates of a device, for estimates of latency.

    device: the one of the target that they are of, the slowest, with its power mode.   int8_tops: dense, None without
    INT8 instructions.   float_tflops: of the precision that layers outside INT8 run in.   launch_us: of one layer.
    """

    device: str
    int8_tops: Optional[float] = None
    float_tflops: float
    bandwidth_gb_s: float
    launch_us: float

    def __str__(self) -> str:
        """Return device and rates on one line."""
        int8 = f"{self.int8_tops:g} INT8 TOPS, " if self.int8_tops is not None else ""
        rates = f"{self.float_tflops:g} TFLOPS, {self.bandwidth_gb_s:g} GB/s, {self.launch_us:g} us a launch"
        return f"{self.device}: {int8}{rates}"


class Advice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known problem or property, with the `runtimes` that have it; None for all."""

    value: str
    source: str
    mark: Mark
    runtimes: Optional[List[str]] = None

    def is_of(self, runtime: str) -> bool:
        """Whether it is a matter of a runtime."""
        return self.runtimes is None or runtime in self.runtimes


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, or several that behave alike.

    name, aliases: for the command line.   family: the page under docs/targets.   kind: how its software is installed.
    precisions: what to run on it, the best first.   tensorrt: the version to use, with `tensorrt_first` and
    `tensorrt_last` as its bounds and `tensorrt_seen` as the last one that was looked at.   torch_tensorrt: a version of
    `Table.torch_tensorrt`.   cuda_last: last toolkit that compiles for it.   install: how TensorRT gets there.
    python: of its TensorRT, separated by commas; of a Jetson, each JetPack line has its own.
    rates: for estimates.   int8: of CPUs only; GPUs have it in `Architecture`.   advice: what to know before promising
    a speed.
    """

    name: str
    title: str
    family: str
    kind: Literal["gpu", "jetson", "cpu"]
    aliases: List[str]
    precisions: List[Precision]
    sm: Optional[Fact[str]] = None
    int8: Optional[Advice] = None
    dla: Optional[Fact[bool]] = None
    dla_cores: Optional[Fact[int]] = None
    tensorrt: Optional[Fact[str]] = None
    tensorrt_first: Optional[Fact[str]] = None
    tensorrt_last: Optional[Fact[str]] = None
    tensorrt_seen: Optional[Fact[str]] = None
    torch_tensorrt: Optional[Fact[str]] = None
    torch: Optional[Fact[str]] = None
    cuda_last: Optional[Fact[str]] = None
    rates: Optional[Fact[Rates]] = None
    python: Optional[Fact[str]] = None
    install: Fact[str]
    advice: List[Advice]


class JetPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JetPack line, the Jetsons it is for (`targets`) and its versions.

    tensorrt: the version it ships; tensorrt_last: the newest that it may carry; opset: the parser's cap.
    """

    name: str
    title: Optional[str] = None
    targets: List[str]
    l4t: Optional[Fact[str]] = None
    cuda: Optional[Fact[str]] = None
    cudnn: Optional[Fact[str]] = None
    tensorrt: Fact[str]
    tensorrt_last: Optional[Fact[str]] = None
    python: Optional[Fact[str]] = None
    opset: Optional[Fact[int]] = None
    torch: Optional[Fact[str]] = None
    torch_tensorrt: Optional[Fact[str]] = None


class Parser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The highest ONNX opset that the parsers of TensorRT `first` to `last` read."""

    first: str
    last: str
    opset: int
    source: str
    mark: Mark


class TorchTensorRT(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Versions that one release of Torch-TensorRT pins; `tensorrt_tegra` on Jetsons, `python` at least.

    quantizes: whether it converts explicit INT8; typed: set where precision can no longer be asked for by a flag.
    """

    version: str
    torch: str
    tensorrt: str
    tensorrt_tegra: Optional[str] = None
    cuda: str
    python: str
    quantizes: bool
    typed: Optional[Fact[str]] = None
    note: Optional[str] = None
    source: str
    mark: Mark


class Operator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"since": "from"}):
    """Support of an operator by a runtime, from version `since` on and `before` another; None leaves that end open."""

    operator: str
    runtime: Literal["tensorrt"]
    effect: Literal["refusal", "caution"]
    since: Optional[str] = None
    before: Optional[str] = None
    finding: str
    instead: Optional[str] = None
    source: str
    mark: Mark


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts that hold on every device.

    top_k: largest K of TopK.   jetpack_first_11: first TensorRT 11 for JetPack.   python: least version that this
    package runs on.   The others are sentences.
    """

    top_k: Fact[int]
    uint8: Fact[str]
    zero_point: Fact[str]
    int32_bias: Fact[str]
    plugins: Fact[str]
    fp16_beside_int8: Fact[str]
    half_by_casts: Fact[str]
    implicit_int8: Fact[str]
    jetpack_first_11: Fact[str]
    onnxruntime_on_orin: Fact[str]
    onnxruntime_gpu_cuda: Fact[str]
    onnxruntime_gpu_jetson: Fact[str]
    portability: Fact[str]
    device_report: Fact[str]
    python: Fact[str]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known of the devices, as of the month `stated`."""

    stated: str
    targets: List[Target]
    jetpacks: List[JetPack]
    parsers: List[Parser]
    torch_tensorrt: List[TorchTensorRT]
    operators: List[Operator]
    limits: Limits
    architecture: List[Architecture] = msgspec.field(default_factory=load_architectures)

    def find(self, name: str) -> Target:
        """Return the target of this name or alias; capitals, spaces and underscores do not matter.

        Raises:
            ConfigError: no target has this name; the message gives the nearest.
        """
        if not isinstance(name, str):
            raise ConfigError(f"target is {name!r}, expected a name of `blendmask targets`.")
        names = self._names()
        wanted = _plain(name)
        if wanted in names:
            return names[wanted]
        near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
        every = ", ".join(target.name for target in self.targets)
        known = f"The nearest is {_called(near[0], names)}" if near else f"Known: {every}"
        raise ConfigError(f"Unknown target {name!r}. {known}. `blendmask targets` lists them all.")

    def architecture_of(self, target: Target) -> Optional[Architecture]:
        """Return the architecture of the GPU of a target; None for CPUs."""
        return next((row for row in self.architecture if target.sm is not None and row.sm == target.sm.value), None)

    def jetpacks_of(self, target: Target) -> Tuple[JetPack, ...]:
        """Return the JetPack lines for a target, oldest first; none unless it is a Jetson."""
        return tuple(row for row in self.jetpacks if target.name in row.targets)

    def pythons_of(self, target: Target) -> Tuple[str, ...]:
        """Return the versions of Python that the TensorRT of a target is for, oldest first; none if any will do."""
        facts = [target.python, *(row.python for row in self.jetpacks_of(target))]
        versions = [version for fact in facts if fact is not None for version in fact.value.split(", ")]
        return tuple(dict.fromkeys(versions))

    def _names(self) -> Dict[str, Target]:
        rows = self.targets
        return {_plain(name): row for row in rows for name in [row.name, row.title, *row.aliases]}


@functools.lru_cache(maxsize=None)
def load_table() -> Table:
    """Read the table that comes with this package."""
    return msgspec.json.decode(_DATA.read_bytes(), type=Table)


def _called(name: str, names: Dict[str, Target]) -> str:
    target = names[name].name
    return target if name == target else f"{name}, which is {target}"


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
