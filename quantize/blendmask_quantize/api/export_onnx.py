"""`export_onnx`: export the float network as an ONNX graph."""

from __future__ import annotations

from pathlib import Path

from blendmask_edge.storage.atomic import write_bytes
from blendmask_quantize.api.arguments import (
    AnyCheckpoint,
    AnyConfig,
    check_checkpoint,
    check_output,
    check_size,
    known_config,
    open_checkpoint,
)
from blendmask_quantize.api.values import SIZE, as_path, check_all, whole
from blendmask_quantize.model.input_size import input_size
from blendmask_quantize.pipeline.options import CANDIDATES_MOST, PathLike

_KINDS = {"size": SIZE.or_none(), "detections": whole(1, 100), "candidates": whole(1, CANDIDATES_MOST)}


def export_onnx(
    checkpoint: AnyCheckpoint, output: PathLike, *, config: AnyConfig = None, size: tuple[int, int] | None = None,
    detections: int = 100, candidates: int = 512,
) -> Path:  # fmt: skip
    """Export the float network, with selection and mask blending, as an ONNX graph.

    Args:
        checkpoint: path of a checkpoint, or a loaded one.
        output: path of the `.onnx` file.
        config: name or YAML of the configuration, for a path to a checkpoint that does not name its own.
        size: height and width of the network input; None takes the test size for a 4:3 image.
        detections: largest number of instances in an image, 1 to 100.
        candidates: largest number of pairs of location and class that suppression compares, 1 to 3840; of more above
            the score threshold, those that score least are left out.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ConfigError: the network cannot take the size, or cannot be exported.
        OutputError: the file cannot be written.
    """
    check_checkpoint(checkpoint)
    check_all(_KINDS, {"size": size, "detections": detections, "candidates": candidates})
    path = as_path("output", output)
    check_size(known_config(checkpoint, config), size)
    check_output(path, "model.onnx", inputs=(checkpoint, config))
    from blendmask_quantize.export.bounds import Bounds
    from blendmask_quantize.export.deployable import DeployableGraph
    from blendmask_quantize.export.onnx import export_onnx as export
    from blendmask_quantize.quantization.trace import trace_network

    model = open_checkpoint(checkpoint, config).model
    bounds = Bounds(candidates=candidates, detections=detections)
    graph = DeployableGraph(model, trace_network(model), input_size(model.config.input, size), bounds)
    write_bytes(path, export(graph.eval()).SerializeToString())
    return path
