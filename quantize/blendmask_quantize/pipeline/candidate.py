"""A quantized network as graphs, before accuracy and time are measured; it can be kept and taken up again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from blendmask_edge.bundle.manifest import Manifest, decode_manifest, encode_manifest
from blendmask_edge.bundle.writer import write_bundle
from blendmask_edge.storage.temporary import scratch_folder
from blendmask_quantize.export.bundle import with_graphs
from blendmask_quantize.export.parity import Parity
from blendmask_quantize.pipeline.calibration_set import CalibrationReport
from blendmask_quantize.quantization.refine.steps import Outcome
from blendmask_quantize.validation.fidelity import Fidelity

FLOAT, CPU, TENSORRT = "float", "cpu", "tensorrt"
_DOCUMENT, _MANIFEST, _STATIC, _PROGRAM = "document", "manifest", "static float", "program"


@dataclass(frozen=True)
class Trained:
    """The result of pruning, or of training with quantizers.

    Attributes:
        text: the result in a sentence.
        entries: what a manifest remembers, in JSON's types.
    """

    text: str
    entries: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The entry of the manifest, in JSON's types."""
        return self.entries

    def __str__(self) -> str:
        """The result in a sentence."""
        return self.text


@dataclass(frozen=True)
class Account:
    """How a candidate was made, and what it came to.

    Attributes:
        parities: of each graph with its torch graph.
        fidelity: distance of each INT8 graph from the float one.
        calibration: the record, and findings up to the comparison with float, which are not checked yet.
        refined: result of each refinement step.
        training: results of pruning and training, by name; empty where the recipe does neither.
    """

    parities: dict[str, Parity]
    fidelity: dict[str, Fidelity]
    calibration: CalibrationReport
    refined: tuple[Outcome, ...] = ()
    training: dict[str, Trained] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """The result of a recipe, exported and compared with float.

    Attributes:
        graphs: ONNX by variant. The float graph makes masks for existing rows only, as the `cpu` graph does, so that
            both do the same work when they are timed.
        static_float: the float graph that a bundle carries, static as TensorRT demands; empty where it carries none.
        manifest: of the graphs, without what is measured of them.
        account: what else is known.
        program: the network of the `tensorrt` graph as a program of torch, for Torch-TensorRT; empty where none is
            compiled.
    """

    graphs: dict[str, bytes]
    static_float: bytes
    manifest: Manifest
    account: Account
    program: bytes = b""

    @property
    def shipped(self) -> dict[str, bytes]:
        """The graphs of the bundle."""
        graphs = self.graphs | {FLOAT: self.static_float}
        return {variant: data for variant, data in graphs.items() if data}

    def checked(self, allow: tuple[str, ...]) -> Candidate:
        """The candidate with the findings of the guard checked.

        Args:
            allow: codes of refusals that are overridden.

        Raises:
            CalibrationError: a refusal is not overridden.
        """
        return replace(self, account=replace(self.account, calibration=self.account.calibration.checked_anew(allow)))

    @contextmanager
    def scratch_bundle(self) -> Iterator[Path]:
        """A bundle of all graphs, so that they are measured as the SDK runs them; removed afterwards."""
        with scratch_folder() as scratch:
            yield write_bundle(scratch / "all.bmz", with_graphs(self.manifest, self.graphs), self.graphs)

    def to_arrays(self) -> dict[str, NDArray[np.uint8]]:
        """Everything as arrays of bytes, by name."""
        document = json.dumps(msgspec.to_builtins(self.account)).encode()
        members = {_DOCUMENT: document, _MANIFEST: encode_manifest(self.manifest)}
        members |= {_STATIC: self.static_float, _PROGRAM: self.program}
        return {name: np.frombuffer(data, np.uint8) for name, data in (members | self.graphs).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Candidate:
        """The candidate that `to_arrays` gave."""
        members = {name: array.tobytes() for name, array in arrays.items()}
        account = msgspec.convert(json.loads(members.pop(_DOCUMENT)), Account)
        manifest, static = decode_manifest(members.pop(_MANIFEST)), members.pop(_STATIC)
        program = members.pop(_PROGRAM)
        return cls(members, static, manifest, account, program)
