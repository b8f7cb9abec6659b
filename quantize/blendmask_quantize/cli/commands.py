"""Register the commands that need the workstation install. Each calls a function of the library."""

from __future__ import annotations

import typer

from blendmask_quantize.cli.distill import distill
from blendmask_quantize.cli.evaluate import evaluate
from blendmask_quantize.cli.export import export
from blendmask_quantize.cli.prune import prune
from blendmask_quantize.cli.quantize import quantize
from blendmask_quantize.cli.sensitivity import sensitivity
from blendmask_quantize.cli.train import train
from blendmask_quantize.cli.visualize import visualize


def register(app: typer.Typer) -> None:
    """Add the commands to the `blendmask` application."""
    for command in (quantize, sensitivity, evaluate, train, distill, prune, export, visualize):
        app.command()(command)
    app.command("teach", hidden=True)(distill)  # its name in the first release
