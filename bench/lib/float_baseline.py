"""Build the float graph that INT8 is timed against: like the `cpu` graph, it computes masks for live rows only.

The `float` graph of a bundle is static, as TensorRT requires, and computes masks for all rows.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from blendmask_edge import Bundle
from blendmask_edge.bundle import write_bundle
from blendmask_edge.bundle.manifest import GraphEntry
from blendmask_quantize import load_checkpoint
from blendmask_quantize.export.bounds import Bounds
from blendmask_quantize.export.deployable import DeployableGraph
from blendmask_quantize.export.onnx import OPSET, export_onnx
from blendmask_quantize.quantization.trace import trace_network


def with_comparable_float(bundle: Path, checkpoint: Path, output: Path) -> Path:
    """Write a bundle with the `cpu` graph of another one and a float graph to time beside it; return its path.

    Args:
        bundle: made from the checkpoint without pruning.
        checkpoint: gives the float graph.
        output: where the bundle goes.
    """
    opened = Bundle.open(bundle)
    model, manifest = load_checkpoint(checkpoint).model, opened.manifest
    bounds = Bounds(manifest.nms.candidates, manifest.nms.rounds, manifest.detections)
    size = (manifest.input.height, manifest.input.width)
    network = DeployableGraph(model, trace_network(model), size, bounds, live_rows=True).eval()
    graphs = {"cpu": opened.graph("cpu"), "float": export_onnx(network).SerializeToString()}
    entries = {
        "cpu": manifest.graphs["cpu"],
        "float": GraphEntry.describe("float", graphs["float"], opset=OPSET, precision="float32"),
    }
    changed = msgspec.structs.replace(manifest, graphs=entries, metrics={}, fidelity={})
    return write_bundle(output, changed, graphs)
