"""`blendmask visualize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blendmask_edge.cli.output import say
from blendmask_quantize.cli.arguments import CheckpointArgument, ClassesOption, ConfigOption


def visualize(
    checkpoint: CheckpointArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="Image file.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.png", help="PNG file to write.", show_default=False)
    ],
    config: ConfigOption = None,
    classes: ClassesOption = None,
    instances: Annotated[int, typer.Option(help="Largest number of instances.", min=0, max=100)] = 6,
    score: Annotated[float, typer.Option(help="Least score of an instance, 0 to 1.", min=0, max=1)] = 0.3,
) -> None:
    """Draw the bases of an image, and the attention and blended mask of each instance."""
    from blendmask_quantize.api.visualize import visualize as run

    figure = run(checkpoint, image, output, config=config, classes=classes, instances=instances, score=score)
    say(
        f"Shows {figure.shown} of {figure.detected} instances, those with the highest scores from {score:g} "
        "(--instances, --score)"
    )
    say(f"Saved the figure to {output}")
