"""Check that an ONNX file is a graph as our exporter writes them: self-contained, of known operators, bounded.

Whoever writes a bundle writes its hashes, too, so a right hash says nothing of the graph. What a runtime would do with
it is bounded here: nothing outside the file is read, nothing loops, and memory and work stay in proportion to the
image.
"""

from __future__ import annotations

import math
from typing import Dict, List

from blendmask_edge.bundle.onnx_file import ITEM_BYTES, Node, OnnxFile, read_onnx_file
from blendmask_edge.bundle.operators.bound import Bound, Call, check_tensor, constant
from blendmask_edge.bundle.operators.rules import RULES, scratch, work
from blendmask_edge.errors import BundleError

OPSETS = (13, 17)
"""Oldest and newest version of ONNX's operators whose rules are known here."""
IR_VERSIONS = (7, 8)
"""Oldest and newest version of the file format, those of these opsets."""
MAX_DEPTH = 2**12
"""Operators in the longest chain; runtimes follow chains by recursion."""
MAX_RANK = 8
MAX_ELEMENTS = (2**26, 2**8)
"""Elements of all tensors that exist at once beside those of the file: some, and for each pixel of the input."""
MAX_SCRATCH = (2**26, 2**10)
"""Elements that one operator may need beside its result: some, and for each pixel of the input."""
MAX_WORK = (2**36, 2**21)
"""Multiply-accumulates, or elements, of all operators together: some, and for each pixel of the input."""
_FAILURES = (ValueError, TypeError, IndexError, KeyError, OverflowError, ZeroDivisionError)


def check_graph(data: bytes) -> None:
    """Refuse a graph that our exporter would not write.

    Raises:
        BundleError: the bytes are not an ONNX file; something lies outside the file; an operator is not one of
            `operators.rules.RULES`; a tensor does not hold what its shape states; or a limit of this module is passed.
    """
    graph = read_onnx_file(data)
    _check_versions(graph)
    known = _Known(graph)
    for tensor in graph.constants:
        check_tensor(tensor)
        known.take(tensor.name, Bound(tensor.shape), 0)
    for entry in graph.inputs:
        known.add(entry.name, Bound(tuple(size or 0 for size in entry.shape or ())), 0)
    for number, node in enumerate(graph.nodes):
        known.run(node, number)
    for output in graph.outputs:
        known.bound(output.name)


class _Known:
    """The tensors that exist so far, by name, and what it took to compute them."""

    def __init__(self, graph: OnnxFile) -> None:
        pixels = _pixels(graph)
        self._last_uses = _last_uses(graph)
        self._constants = {tensor.name: tensor for tensor in graph.constants}
        self._bounds: Dict[str, Bound] = {}
        self._depths: Dict[str, int] = {}
        limits = (base + each * pixels for base, each in (MAX_ELEMENTS, MAX_SCRATCH, MAX_WORK))
        self._most_elements, self._most_scratch, self._most_work = limits
        self._elements = self._work = 0

    def bound(self, name: str) -> Bound:
        if name not in self._bounds:
            raise BundleError(f"nothing makes the tensor {name[:80]!r} before it is used")
        tensor = self._constants.get(name)  # whose values are decoded at each use, since all at once take memory
        return self._bounds[name] if tensor is None else constant(tensor)

    def take(self, name: str, bound: Bound, depth: int) -> None:
        """Note a tensor."""
        if name in self._bounds or not name:
            raise BundleError(f"two tensors have the name {name[:80]!r}" if name else "a tensor has no name")
        if len(bound.shape) > MAX_RANK or depth > MAX_DEPTH:
            raise BundleError(f"the tensor {name[:80]!r} has more than {MAX_RANK} axes or lies deeper than {MAX_DEPTH}")
        self._bounds[name], self._depths[name] = bound, depth

    def add(self, name: str, bound: Bound, depth: int) -> None:
        """Note a tensor that takes memory of its own when the graph runs."""
        self.take(name, bound, depth)
        self._elements += bound.count
        if max((self._elements, *bound.shape)) > self._most_elements:
            raise BundleError(f"with the tensor {name[:80]!r} it may hold more than {self._most_elements} elements")

    def run(self, node: Node, number: int) -> None:
        """Bound what one operator makes."""
        if node.domain:
            raise BundleError("it holds an operator of another domain than ONNX's own, which no exported graph does")
        if node.operator not in RULES:
            raise BundleError(f"it holds the operator {node.operator[:80]!r}, which no exported graph does")
        call = Call([self.bound(name) if name else None for name in node.inputs], node.attributes)
        try:
            result = RULES[node.operator](call)
            self._work += work(node.operator, call, result)
            needed = scratch(node.operator, call, result)
        except _FAILURES as error:
            raise BundleError(f"its node {number}, {node.operator}, cannot be bounded: {error}") from error
        if self._work > self._most_work:
            raise BundleError(f"it takes more than {self._most_work} operations")
        if needed > self._most_scratch:
            raise BundleError(f"its node {number}, {node.operator}, may copy more than {self._most_scratch} elements")
        depth = 1 + max((self._depths[name] for name in node.inputs if name), default=0)
        for name in filter(None, node.outputs):
            self.add(name, result, depth)
        self._release([*node.inputs, *node.outputs], number)

    def _release(self, names: List[str], number: int) -> None:
        """Take the tensors that no later operator reads out of the count of elements; those of the file never were."""
        done = {name for name in names if name and self._last_uses.get(name, number) == number}
        self._elements -= sum(self._bounds[name].count for name in done - self._constants.keys())


def _check_versions(graph: OnnxFile) -> None:
    opset, ir_version = graph.opsets.get("", 0), graph.ir_version
    for name, version, (oldest, newest) in (("opset", opset, OPSETS), ("IR version", ir_version, IR_VERSIONS)):
        if not oldest <= version <= newest:
            raise BundleError(f"it has ONNX {name} {version}, this release reads {oldest} to {newest}")
    if len(graph.opsets) > 1:
        raise BundleError(f"it imports operators of {len(graph.opsets)} domains, expected ONNX's own alone")


def _pixels(graph: OnnxFile) -> int:
    """Return the elements of the input, whose sizes must be stated."""
    pixels = 0
    for entry in graph.inputs:
        if entry.dtype not in ITEM_BYTES:
            raise BundleError(f"its input {entry.name[:80]!r} has the type {entry.dtype}")
        if entry.shape is None or not all(entry.shape) or min(filter(None, entry.shape), default=1) < 0:
            raise BundleError(f"its input {entry.name[:80]!r} has no fixed shape")
        pixels += math.prod(size or 0 for size in entry.shape)
    return pixels // 3


def _last_uses(graph: OnnxFile) -> Dict[str, int]:
    """Return by tensor the number of the last operator that reads it; outputs are read after all."""
    uses = {name: number for number, node in enumerate(graph.nodes) for name in node.inputs}
    return {**uses, **{entry.name: len(graph.nodes) for entry in graph.outputs}}
