"""`blendmask visualize`: a checkpoint and an image to the figure of how its masks come about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import ClassesOption, ConfigOption


def visualize(
    checkpoint: Annotated[Path, typer.Argument(metavar="CKPT", help=".safetensors or .pth", show_default=False)],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="The figure, a PNG.", show_default=False)
    ],
    config: ConfigOption = None,
    classes: ClassesOption = None,
    instances: Annotated[int, typer.Option(help="Most instances, the surest first.", min=0, max=100)] = 6,
    score: Annotated[float, typer.Option(help="Least score of an object.", min=0, max=1)] = 0.3,
) -> None:
    """Show how a network makes its masks: bases, attention and blended mask of each object, as one image."""
    from blendmask_edge.imaging import read_image
    from blendmask_quantize.checkpoints.checkpoint import load_checkpoint
    from blendmask_quantize.visualize.figure import draw_figure, write_figure
    from blendmask_quantize.visualize.stages import run_stages

    loaded, pixels = load_checkpoint(checkpoint, config, classes), read_image(image)
    found = run_stages(loaded, pixels)
    shown = found.best(instances, score)
    write_figure(output, draw_figure(shown, loaded.config, image.name))
    count, of = len(shown.instances), len(found.instances)
    typer.echo(f"{count} of {of} instances shown, the surest of score {score:g} or more (--instances, --score)")
    typer.echo(f"The figure lies in {output}")
