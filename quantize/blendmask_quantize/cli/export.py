"""`blendmask export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_edge.cli.output import say
from blendmask_quantize.cli.arguments import CheckpointArgument, ConfigOption, SizeOption, parse_size
from blendmask_quantize.cli.quantize_options import Candidates


def export(
    checkpoint: CheckpointArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="M.onnx", help="ONNX file to write.", show_default=False)
    ],
    config: ConfigOption = None,
    size: SizeOption = None,
    detections: Annotated[int, typer.Option(help="Largest number of instances per image.", min=1, max=100)] = 100,
    candidates: Candidates = 512,
) -> None:
    """Export the float network, with selection and mask blending, as an ONNX graph."""
    from blendmask_quantize.api.export_onnx import export_onnx

    path = export_onnx(
        checkpoint, output, config=config, size=parse_size(size), detections=detections, candidates=candidates
    )
    say(f"Saved the float graph to {path}; it has the inputs and outputs of the graphs in a bundle")
    say(f"Next: blendmask quantize {checkpoint} --calibration DIR -o M.bmz")
