"""The table of devices: what each can do, and which versions reach it. The data lies in `devices.json` beside this.

Every fact carries where it comes from and how far it is known: "verified" by an experiment, "documented" in public
text, "unverified" for general knowledge. Unknown facts are left out, so most cells may be None.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from typing import Dict, Generic, List, Literal, Optional, Tuple, TypeVar

import msgspec

from blendmask_edge.errors import ConfigError

Mark = Literal["verified", "documented", "unverified"]
Precision = Literal["int8", "fp16", "fp32"]
T = TypeVar("T")
_DATA = Path(__file__).with_name("devices.json")


class Cell(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """One fact: its value, where it comes from, and how far it is known."""

    value: T
    source: str
    mark: Mark


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Capabilities of the GPUs of one compute capability (`sm`, "8.7").

    fp16: "slow", "native" or "tensor cores"; fp16_rate: against FP32; int8: "none", "dp4a" or "tensor cores";
    sparsity: 2:4 structured weights.
    """

    sm: str
    fp16: Cell[Literal["slow", "native", "tensor cores"]]
    fp16_rate: Optional[Cell[str]] = None
    int8: Cell[Literal["none", "dp4a", "tensor cores"]]
    bf16: Cell[bool]
    fp8: Cell[bool]
    fp4: Optional[Cell[bool]] = None
    sparsity: Cell[bool]


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One device, or several that behave alike.

    name, aliases: for the command line.   family: the page under docs/targets.   kind: how its software is installed.
    precisions: what to run on it, the best first.   tensorrt: the version to use, with `tensorrt_first` and
    `tensorrt_last` as its bounds and `tensorrt_seen` as the last one that was looked at.   torch_tensorrt: a version of
    `Table.torch_tensorrt`.   cuda_last: last toolkit that compiles for it.   install: how TensorRT gets there.
    int8: of CPUs only; GPUs have it in `Architecture`.   advice: what to know before promising a speed.
    """

    name: str
    title: str
    family: str
    kind: Literal["gpu", "jetson", "cpu"]
    aliases: List[str]
    precisions: List[Precision]
    sm: Optional[Cell[str]] = None
    int8: Optional[Cell[str]] = None
    dla: Optional[Cell[bool]] = None
    dla_cores: Optional[Cell[int]] = None
    tensorrt: Optional[Cell[str]] = None
    tensorrt_first: Optional[Cell[str]] = None
    tensorrt_last: Optional[Cell[str]] = None
    tensorrt_seen: Optional[Cell[str]] = None
    torch_tensorrt: Optional[Cell[str]] = None
    torch: Optional[Cell[str]] = None
    cuda_last: Optional[Cell[str]] = None
    install: Cell[str]
    advice: List[Cell[str]]


class JetPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JetPack line, the Jetsons it is for (`targets`) and its versions.

    tensorrt: the version it ships; tensorrt_last: the newest that it may carry; opset: the parser's cap.
    """

    name: str
    title: Optional[str] = None
    targets: List[str]
    l4t: Optional[Cell[str]] = None
    cuda: Optional[Cell[str]] = None
    cudnn: Optional[Cell[str]] = None
    tensorrt: Cell[str]
    tensorrt_last: Optional[Cell[str]] = None
    python: Optional[Cell[str]] = None
    opset: Optional[Cell[int]] = None
    torch: Optional[Cell[str]] = None
    torch_tensorrt: Optional[Cell[str]] = None


class Parser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The highest ONNX opset that the parsers of TensorRT `first` to `last` read."""

    first: str
    last: str
    opset: int
    source: str
    mark: Mark


class TorchTensorRT(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one release of Torch-TensorRT pins; `tensorrt_tegra` on Jetsons, `python` at least.

    quantizes: whether it converts explicit INT8; typed: set where precision can no longer be asked for by a flag.
    """

    version: str
    torch: str
    tensorrt: str
    tensorrt_tegra: Optional[str] = None
    cuda: str
    python: str
    quantizes: bool
    typed: Optional[Cell[str]] = None
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

    top_k: largest K of TopK.   explicit_batch_last: last TensorRT that must be told so.   strong_typing_first: first
    that can take precisions from the graph alone.   weak_typing_last: last whose builder takes precision flags.
    jetpack_first_11: first TensorRT 11 for JetPack.   python: least version that this package runs on.
    The others are sentences.
    """

    top_k: Cell[int]
    uint8: Cell[str]
    zero_point: Cell[str]
    int32_bias: Cell[str]
    plugins: Cell[str]
    explicit_batch_last: Cell[str]
    strong_typing_first: Cell[str]
    weak_typing_last: Cell[str]
    fp16_beside_int8: Cell[str]
    implicit_int8: Cell[str]
    jetpack_first_11: Cell[str]
    portability: Cell[str]
    device_report: Cell[str]
    python: Cell[str]


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known of the devices, as of the month `stated`."""

    stated: str
    architecture: List[Architecture]
    targets: List[Target]
    jetpacks: List[JetPack]
    parsers: List[Parser]
    torch_tensorrt: List[TorchTensorRT]
    operators: List[Operator]
    limits: Limits

    def find(self, name: str) -> Target:
        """Return the target of this name or alias; capitals, spaces and underscores do not matter.

        Raises:
            ConfigError: no target has this name; the message gives the nearest.
        """
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
