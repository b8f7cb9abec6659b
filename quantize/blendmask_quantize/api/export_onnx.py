"""`export_onnx`: the float network as one ONNX graph."""

from __future__ import annotations

from pathlib import Path

from blendmask_quantize.api.arguments import AnyCheckpoint, AnyConfig, check_checkpoint, check_output, open_checkpoint
from blendmask_quantize.pipeline.options import PathLike


def export_onnx(
    checkpoint: AnyCheckpoint, output: PathLike, *, config: AnyConfig = None, size: tuple[int, int] | None = None,
    detections: int = 100,
) -> Path:  # fmt: skip
    """Write the float network, with its selection and mask blending, as one ONNX graph.

    Args:
        checkpoint: path of a checkpoint, or a loaded one.
        output: path of the `.onnx` file.
        config: name or YAML of the configuration, for a path to a checkpoint that does not name its own.
        size: height and width of the network input; None takes the test size for a 4:3 image.
        detections: largest number of instances in an image, 1 to 100.

    Returns:
        The path of the file.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ConfigError: the network cannot take the size, or cannot be exported.
        OutputError: the file cannot be written.
    """
    check_checkpoint(checkpoint)
    path = Path(output)
    check_output(path)
    from blendmask_edge.storage.atomic import write_bytes
    from blendmask_quantize.export.deployable import Bounds, DeployableGraph
    from blendmask_quantize.export.onnx import export_onnx as export
    from blendmask_quantize.pipeline.job import input_size
    from blendmask_quantize.quantization.trace import trace_network

    model = open_checkpoint(checkpoint, config).model
    bounds = Bounds(detections=detections)
    graph = DeployableGraph(model, trace_network(model), input_size(model.config.input, size), bounds)
    write_bytes(path, export(graph.eval()).SerializeToString())
    return path
