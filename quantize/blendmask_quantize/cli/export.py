"""`blendmask export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import CheckpointArgument, ConfigOption, SizeOption, parse_size


def export(
    checkpoint: CheckpointArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="M.onnx", help="The graph.", show_default=False)],
    config: ConfigOption = None,
    size: SizeOption = None,
    detections: Annotated[int, typer.Option(help="Most instances in an image.", min=1, max=100)] = 100,
) -> None:
    """Write the float network, with its selection and mask blending, as one ONNX graph."""
    from blendmask_quantize.api.export_onnx import export_onnx

    path = export_onnx(checkpoint, output, config=config, size=parse_size(size), detections=detections)
    typer.echo(f"The float graph lies in {path}; its inputs and outputs are those of a bundle's graphs")
    typer.echo(f"Next: blendmask quantize {checkpoint} --calibration DIR -o M.bmz")
