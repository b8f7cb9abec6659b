"""`blendmask visualize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_quantize.cli.arguments import CheckpointArgument, ClassesOption, ConfigOption


def visualize(
    checkpoint: CheckpointArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="PNG file to write.", show_default=False)
    ],
    config: ConfigOption = None,
    classes: ClassesOption = None,
    instances: Annotated[int, typer.Option(help="Most instances, the highest scores first.", min=0, max=100)] = 6,
    score: Annotated[float, typer.Option(help="Least score of an instance.", min=0, max=1)] = 0.3,
) -> None:
    """Show how a network makes its masks: bases, attention and blended mask of each instance, as one image."""
    from blendmask_quantize.api.visualize import visualize as run

    figure = run(checkpoint, image, output, config=config, classes=classes, instances=instances, score=score)
    typer.echo(
        f"{figure.shown} of {figure.found} instances shown, those with the highest scores, from {score:g} on "
        "(--instances, --score)"
    )
    typer.echo(f"The figure lies in {output}")
