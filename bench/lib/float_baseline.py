"""Build the float graph that INT8 is timed against: like the `cpu` graph, it computes masks for live rows only.

The `float` graph of a bundle is static, as TensorRT requires, and computes masks for all rows.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch
from torch import Tensor
from torch.nn import functional as F

from blendmask_edge import Bundle
from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.manifest import GraphEntry
from blendmask_quantize import load_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import OPSET, export_onnx
from blendmask_quantize.quantization.trace import trace_network

DENSE = "dense"
"""Float with the top layer as a convolution over all levels, as the reference runs it."""


class DenseGraph(DeployableGraph):
    """Coefficients at all locations, of which the kept ones are used."""

    def attention(self, towers: tuple[Tensor, ...], cell: Tensor) -> Tensor:  # type: ignore[override]
        """Attention vectors (N, bases * M * M) at the selected locations."""
        weight = self.top_weight.unflatten(1, (towers[0].shape[1], 3, 3))
        dense = [F.conv2d(tower, weight, self.top_bias, padding=1).flatten(2) for tower in towers]
        return torch.cat(dense, dim=2)[0].index_select(1, cell).T


def with_comparable_float(bundle: Path, checkpoint: Path, output: Path, *, dense: bool = False) -> Path:
    """Write a bundle with the `cpu` graph of another one and a float graph to time beside it; return its path.

    Args:
        bundle: made from the checkpoint without pruning.
        checkpoint: gives the float graph.
        output: where the bundle goes.
        dense: add a float graph that computes coefficients at all locations.
    """
    opened = Bundle.open(bundle)
    model, manifest = load_checkpoint(checkpoint).model, opened.manifest
    bounds = Bounds(manifest.nms.candidates, manifest.nms.rounds, manifest.detections)
    size = (manifest.input.height, manifest.input.width)
    kinds = {"float": DeployableGraph, **({DENSE: DenseGraph} if dense else {})}
    floats = {
        name: export_onnx(kind(model, trace_network(model), size, bounds, live_rows=True).eval()).SerializeToString()
        for name, kind in kinds.items()
    }
    entries = {
        "cpu": manifest.graphs["cpu"],
        **{name: GraphEntry.describe(name, data, opset=OPSET, precision="float32") for name, data in floats.items()},
    }
    changed = msgspec.structs.replace(manifest, graphs=entries, metrics={}, fidelity={})
    return write_bundle(output, changed, {"cpu": opened.graph("cpu"), **floats})
